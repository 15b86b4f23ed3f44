"""Tars of records: write columns of tensors, and read their rows by random access.

The rows of a training batch lie at random positions of many files. One Python slice per row and
column takes a microsecond, about as long as copying the bytes of a latent. All memory mappings
lie in one address space, so a single array covers them all, and one numpy call gathers the rows.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray
from pydantic import NonNegativeInt, PositiveInt, model_validator
from safetensors.torch import save
from torch import Tensor

from pipeline.data.shards.tar_index import IndexedTarWriter, Member, TarIndex, open_tar, write_index
from pipeline.documents import Document
from pipeline.errors import DataError

Bytes = NDArray[np.uint8]


class MappedRows:
    """Several pieces of memory, read as one array.

    The array also covers the memory between the pieces, which must not be read, and accesses are
    not checked. Offsets must come from a table that was checked against the sizes of the pieces.
    """

    def __init__(self, pieces: Sequence[memoryview]) -> None:
        """Map all pieces, which are kept alive; at least one piece, none of them empty."""
        self._pieces = [np.frombuffer(piece, np.uint8) for piece in pieces]
        starts = np.array([piece.ctypes.data for piece in self._pieces], np.int64)
        ends = starts + [len(piece) for piece in self._pieces]
        self._lowest = self._pieces[int(starts.argmin())]
        self._extent = int(ends.max() - starts.min())
        self.bases = starts - starts.min()
        """Start of each piece, for `gather`."""

    def gather(self, places: NDArray[np.int64], width: int) -> Bytes:
        """Copy `width` >= 1 bytes from each place: uint8 `[len(places), width]`.

        Args:
            places: base of a piece plus an offset in it, int64; each row must end inside the piece.
            width: bytes per row.
        """
        rows = (self._extent - width + 1, width)
        every = as_strided(self._lowest, shape=rows, strides=(1, 1), writeable=False)
        copies: Bytes = every[places]
        return copies


DtypeName = Literal["float16", "float32", "float64", "int64"]

_DTYPES: dict[DtypeName, torch.dtype] = {
    "float16": torch.float16,
    "float32": torch.float32,
    "float64": torch.float64,
    "int64": torch.int64,
}

_NAMES = {dtype: name for name, dtype in _DTYPES.items()}

_REMAKE = "delete the shard and run again to regenerate the targets"

_LENGTH_BYTES = 8  # a safetensors file starts with the length of its JSON header


class Column(Document):
    """Dtype and shape of one row of a column."""

    dtype: DtypeName
    shape: tuple[NonNegativeInt, ...]

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        # Python integers: an overflowing fixed-width integer would pass the index checks
        return math.prod(self.shape) * _DTYPES[self.dtype].itemsize


class RecordMember(Member):
    """One chunk of rows.

    Attributes:
        count: number of rows.
        sha256: sha256 of its bytes, in hex.
        starts: offset of each column in bytes, from the start of the tar.
    """

    count: PositiveInt
    sha256: str
    starts: dict[str, NonNegativeInt]


class RecordIndex(TarIndex):
    """Table of contents of a tar of records; all its members have the same columns."""

    columns: dict[str, Column]
    members: tuple[RecordMember, ...]

    @model_validator(mode="after")
    def _rows_add_up(self) -> "RecordIndex":
        counted = sum(member.count for member in self.members)
        if counted != self.count or not counted:
            raise ValueError(f"the members hold {counted} rows, expected {self.count}")
        return self

    @model_validator(mode="after")
    def _columns_lie_inside(self) -> "RecordIndex":
        for member in self.members:
            if member.starts.keys() != self.columns.keys():
                raise ValueError(f"{member.name} has columns {sorted(member.starts)}")
            for name, column in self.columns.items():
                end = member.starts[name] + member.count * column.row_bytes
                if member.starts[name] < member.offset or end > member.offset + member.size:
                    raise ValueError(f"column {name} lies outside {member.name}")
        return self


def write_records(path_tar: Path, chunks: Iterable[dict[str, Tensor]]) -> int:
    """Write one tar of records and its index; return the number of rows.

    Args:
        path_tar: the tar, replaced if it exists; its directory must exist.
        chunks: one member each: columns `[n, ...]` on the CPU, n >= 1, with equal names, dtypes and
            row shapes in all chunks.

    Raises:
        ValueError: the chunks are not as described.
        InfraError: the tar is incomplete or cannot be written.
    """
    columns: dict[str, Column] = {}
    members: list[RecordMember] = []
    with IndexedTarWriter(path_tar) as tar:
        for number, chunk in enumerate(chunks):
            found = _columns_of(chunk)
            columns = columns or found
            if found != columns:
                raise ValueError(f"chunk {number} has columns {found}, the first has {columns}")
            members.append(_add_chunk(tar, number, chunk))
    count = sum(member.count for member in members)
    index = RecordIndex(size=tar.size, count=count, members=tuple(members), columns=columns)
    write_index(path_tar, index)
    return count


def _columns_of(chunk: dict[str, Tensor]) -> dict[str, Column]:
    counts = {len(tensor) for tensor in chunk.values()}
    if len(counts) != 1 or 0 in counts:
        raise ValueError(f"all columns of a chunk need the same number of rows >= 1, got {counts}")
    unsupported = {name: t.dtype for name, t in chunk.items() if t.dtype not in _NAMES}
    if unsupported:
        raise ValueError(f"records hold {', '.join(_DTYPES)}, got {unsupported}")
    return {
        name: Column(dtype=_NAMES[tensor.dtype], shape=tuple(tensor.shape[1:]))
        for name, tensor in sorted(chunk.items())
    }


def _add_chunk(tar: IndexedTarWriter, number: int, chunk: dict[str, Tensor]) -> RecordMember:
    content = save({name: tensor.contiguous() for name, tensor in chunk.items()})
    (member,) = tar.add(f"{number:09d}", {"safetensors": content})
    return RecordMember(
        **member.model_dump(),
        count=len(next(iter(chunk.values()))),
        sha256=hashlib.sha256(content).hexdigest(),
        starts={name: member.offset + at for name, at in _starts(content).items()},
    )


def _starts(content: bytes) -> dict[str, int]:
    # layout: https://github.com/huggingface/safetensors#format
    length = int.from_bytes(content[:_LENGTH_BYTES], "little")
    header = json.loads(content[_LENGTH_BYTES : _LENGTH_BYTES + length])
    data = _LENGTH_BYTES + length
    return {name: data + header[name]["data_offsets"][0] for name in sorted(header)}


class RecordShards:
    """The concatenated rows of several record tars, by random access.

    Only the indexes are held in memory. The tars are memory-mapped, so their pages are shared with
    other processes that read them.
    """

    def __init__(self, tars: Sequence[Path]) -> None:
        """Open the tars.

        Raises:
            DataError: a file is missing or damaged, counts are inconsistent, or the tars do not
                have the same columns.
        """
        if not tars:
            raise DataError("no target shards given; generate the targets first")
        self._tars = tuple(tars)
        self._views: list[memoryview] = []
        self._files: list[int] = []
        self._members: list[RecordMember] = []
        for number, tar in enumerate(tars):
            index, view = open_tar(tar, RecordIndex)
            if number == 0:
                self.columns = index.columns
            if index.columns != self.columns:
                raise DataError(
                    f"{tar} has columns {index.columns}, the first {self.columns}; {_REMAKE}"
                )
            self._views.append(view)
            self._files += [number] * len(index.members)
            self._members += index.members
        self._mapped = MappedRows(self._views)
        ends = np.cumsum([member.count for member in self._members], dtype=np.int64)
        self._size = int(ends[-1])
        self._firsts = np.concatenate([np.zeros(1, np.int64), ends[:-1]])
        bases = self._mapped.bases[self._files]
        self._starts = {
            name: bases + [member.starts[name] for member in self._members] for name in self.columns
        }

    def __len__(self) -> int:
        """Return the total number of rows."""
        return self._size

    def read(
        self, rows: NDArray[np.int64], columns: Sequence[str] | None = None
    ) -> dict[str, Tensor]:
        """Copy the given rows, in that order: each column as `[len(rows), ...]`.

        Args:
            rows: row indices, int64, in any order, repeats allowed.
            columns: names of the columns; None for all.

        Raises:
            IndexError: a row is negative or past the end.
            KeyError: a column does not exist.
        """
        if len(rows) and (rows.min() < 0 or rows.max() >= self._size):
            raise IndexError(
                f"rows {rows.min()} .. {rows.max()} are not all in 0 .. {self._size - 1}"
            )
        member = np.searchsorted(self._firsts, rows, side="right") - 1
        local = rows - self._firsts[member]
        wanted = self.columns if columns is None else columns
        return {name: self._gather(name, member, local) for name in wanted}

    def _gather(self, name: str, member: NDArray[np.int64], local: NDArray[np.int64]) -> Tensor:
        column = self.columns[name]
        dtype, shape = _DTYPES[column.dtype], (len(local), *column.shape)
        if not len(local) * column.row_bytes:
            return torch.empty(shape, dtype=dtype)
        # in bounds, because the index was checked against the tar's size
        places = self._starts[name][member] + local * column.row_bytes
        rows = self._mapped.gather(places, column.row_bytes)
        return torch.from_numpy(rows).view(-1).view(dtype).reshape(shape)

    def verify(self) -> None:
        """Check the sha256 of each member, and that all floats are finite.

        Raises:
            DataError: a check failed; the message has the first such tar, member and column.
        """
        for position, (number, member) in enumerate(zip(self._files, self._members, strict=True)):
            where = f"{self._tars[number]}, member {member.name}"
            content = self._views[number][member.offset : member.offset + member.size]
            if hashlib.sha256(content).hexdigest() != member.sha256:
                raise DataError(f"{where}: sha256 differs from its index; {_REMAKE}")
            local = np.arange(member.count)
            for name in self.columns:
                values = self._gather(name, np.full_like(local, position), local)
                if values.is_floating_point() and not torch.isfinite(values).all():
                    raise DataError(f"{where}, column {name} holds NaN or infinity; {_REMAKE}")
