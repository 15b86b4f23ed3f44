"""Data shards: a data set as plain webdataset tars, written once, read in any order."""

import logging
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import NonNegativeInt, PositiveInt, ValidationError, model_validator

from pipeline.config import Data
from pipeline.data.batch import Batch
from pipeline.data.encoding import DTYPES, decode, encode, to_unit_range
from pipeline.data.source import Encoding, LoadedSource, Sample
from pipeline.data.tar_index import (
    IndexedTarWriter,
    Member,
    TarIndex,
    first_problem,
    open_tar,
    write_index,
)
from pipeline.documents import Document
from pipeline.errors import DataError

FORMAT_VERSION = 1
CACHE_BYTES = 512 * 1024**2
_INFO = "dataset.json"

_log = logging.getLogger(__name__)


class ShardInfo(Document):
    """One tar: its path below the data set, its first row in the split, its number of rows."""

    name: str
    first: NonNegativeInt
    count: PositiveInt


class SplitInfo(Document):
    """One side of the held-out split, in shards."""

    count: PositiveInt
    shards: tuple[ShardInfo, ...]

    @model_validator(mode="after")
    def _shards_follow_each_other(self) -> "SplitInfo":
        reached = 0
        for shard in self.shards:
            if shard.first != reached:
                raise ValueError(f"{shard.name} starts at row {shard.first}, expected {reached}")
            reached += shard.count
        if reached != self.count:
            raise ValueError(f"the shards hold {reached} samples, expected {self.count}")
        return self


class DatasetInfo(Document):
    """What a sharded data set holds; `dataset.json`.

    Attributes:
        source: the recipe's name of where it comes from.
        class_names: in the order of the labels, kept exactly.
        latent_shape: (channels, height, width) of a sample.
        encoding: how samples are stored.
        splits: "train" and "heldout".
    """

    format_version: Literal[1] = 1
    source: str
    class_names: tuple[str, ...]
    latent_shape: tuple[int, int, int]
    encoding: Encoding
    splits: dict[str, SplitInfo]

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)


def write_dataset(folder: Path, samples: LoadedSource, config: Data) -> DatasetInfo:
    """Write every split of a source in shards of `config.shard_size`; the bytes depend on it alone.

    The samples lie as `000000012.png` (or `.npy`) and `000000012.cls`, counted over the split.

    Raises:
        DataError: a sample cannot be read.
        InfraError: a tar came out short.
    """
    info = DatasetInfo(
        source=samples.name,
        class_names=samples.class_names,
        latent_shape=samples.latent_shape,
        encoding=samples.encoding,
        splits={
            split: SplitInfo(
                count=len(rows), shards=_plan_shards(split, len(rows), config.shard_size)
            )
            for split, rows in samples.splits.items()
        },
    )
    for split, content in info.splits.items():
        (folder / split).mkdir(parents=True, exist_ok=True)
        for shard in content.shards:
            _write_shard(folder / shard.name, shard.first, shard.count, samples, split)
    (folder / _INFO).write_text(info.model_dump_json(indent=1), encoding="utf-8")
    return info


def _plan_shards(split: str, total: int, size: int) -> tuple[ShardInfo, ...]:
    return tuple(
        ShardInfo(
            name=f"{split}/shard-{first // size:05d}.tar",
            first=first,
            count=min(size, total - first),
        )
        for first in range(0, total, size)
    )


def _write_shard(tar: Path, first: int, count: int, samples: LoadedSource, split: str) -> None:
    members: list[Member] = []
    with IndexedTarWriter(tar) as writer:
        for position in range(first, first + count):
            row = int(samples.splits[split][position])
            content = encode(samples.read(row), samples.encoding)
            label = str(int(samples.labels[row])).encode()
            members += writer.add(_key(position), {samples.encoding: content, "cls": label})
    write_index(tar, TarIndex(size=writer.size, count=count, members=tuple(members)))


def _key(position: int) -> str:
    return f"{position:09d}"


def read_info(folder: Path) -> DatasetInfo:
    """What a sharded data set holds.

    Raises:
        DataError: the folder is not one.
    """
    path = folder / _INFO
    try:
        return DatasetInfo.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(
            f"{folder} is not a sharded data set: {_INFO} cannot be read ({error.strerror})"
        ) from None
    except (ValidationError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is damaged: {first_problem(error)}; make the data anew") from None


class SampleShards:
    """One split of a data set by random access, with its conditions.

    A split that is small when decoded is kept in memory, each sample decoded when first read.
    """

    def __init__(self, folder: Path, split: str, *, cache_bytes: int = CACHE_BYTES) -> None:
        """Open a split.

        Args:
            folder: a sharded data set.
            split: "train" or "heldout".
            cache_bytes: the decoded size up to which it is kept in memory.

        Raises:
            DataError: the data set is not one, or a shard is missing, cut, or holds another number
                of samples than it should.
        """
        self.info = read_info(folder)
        if split not in self.info.splits:
            raise DataError(f"{folder} has no split {split!r}, only {', '.join(self.info.splits)}")
        content = self.info.splits[split]
        self._shards = content.shards
        self._firsts = np.array([shard.first for shard in content.shards], np.int64)
        self._tars = [folder / shard.name for shard in content.shards]
        self._views: list[memoryview] = []
        self._members: list[Member] = []
        for shard, tar in zip(content.shards, self._tars, strict=True):
            index, view = open_tar(tar, TarIndex)
            self._check_shard(tar, shard, index)
            self._views.append(view)
            self._members += index.members
        self._cache = self._make_cache(split, content.count, cache_bytes)
        self._labels = np.empty(content.count, np.int64)
        self._is_decoded = np.zeros(content.count, bool)

    def __len__(self) -> int:
        """Samples in the split."""
        return len(self._labels)

    def shard_rows(self, number: int) -> tuple[int, int]:
        """First row and number of rows of a shard."""
        shard = self._shards[number]
        return shard.first, shard.count

    def read(self, rows: NDArray[np.int64]) -> Batch:
        """The samples at `rows`, in that order: x float32 `[b, c, h, w]` and their labels.

        8-bit images come in [-1, 1].

        Raises:
            IndexError: a row is negative or past the end.
            DataError: a sample does not decode to what the data set says it holds.
        """
        if len(rows) and (rows.min() < 0 or rows.max() >= len(self)):
            raise IndexError(
                f"rows {rows.min()} .. {rows.max()} are not all in 0 .. {len(self) - 1}"
            )
        if self._cache is None:
            samples, labels = self._decode(rows)
        else:
            new = np.unique(rows[~self._is_decoded[rows]])
            self._cache[new], self._labels[new] = self._decode(new)
            self._is_decoded[new] = True
            samples, labels = self._cache[rows], self._labels[rows]
        return Batch(
            x=torch.from_numpy(to_unit_range(samples)),
            condition={"label": torch.from_numpy(labels)},
        )

    def _check_shard(self, tar: Path, shard: ShardInfo, index: TarIndex) -> None:
        expected = [
            f"{_key(position)}.{extension}"
            for position in range(shard.first, shard.first + shard.count)
            for extension in sorted(("cls", self.info.encoding))
        ]
        if index.count != shard.count or [member.name for member in index.members] != expected:
            raise DataError(
                f"{tar}: expected {shard.count} samples ({len(expected)} members) from "
                f"{_key(shard.first)} on, its index has {index.count} ({len(index.members)} "
                "members); make the data anew"
            )

    def _make_cache(self, split: str, count: int, cache_bytes: int) -> Sample | None:
        shape = (count, *self.info.latent_shape)
        dtype = DTYPES[self.info.encoding]
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        fits = size <= cache_bytes
        _log.info(
            "%s: %d samples are %s, because decoded they take %d of %d bytes allowed",
            split,
            count,
            "kept in memory" if fits else "decoded at every read",
            size,
            cache_bytes,
        )
        return np.empty(shape, dtype) if fits else None

    def _decode(self, rows: NDArray[np.int64]) -> tuple[Sample, NDArray[np.int64]]:
        samples = np.empty((len(rows), *self.info.latent_shape), DTYPES[self.info.encoding])
        labels = np.empty(len(rows), np.int64)
        shard = np.searchsorted(self._firsts, rows, side="right") - 1
        for i, (number, row) in enumerate(zip(shard.tolist(), rows.tolist(), strict=True)):
            labels[i], samples[i] = self._decode_one(number, row)
        return samples, labels

    def _decode_one(self, number: int, row: int) -> tuple[int, Sample]:
        # "cls" sorts before "npy" and "png", so a sample's label comes first
        label_member, sample_member = self._members[2 * row : 2 * row + 2]
        try:
            label = int(self._content(number, label_member))
            if not 0 <= label < self.info.num_classes:
                raise ValueError(f"class {label} of {self.info.num_classes}")
            content = self._content(number, sample_member)
            return label, decode(content, self.info.encoding, self.info.latent_shape)
        except ValueError as error:
            raise DataError(
                f"{self._tars[number]}, sample {_key(row)}: {error}; make the data anew"
            ) from None

    def _content(self, number: int, member: Member) -> bytes:
        return bytes(self._views[number][member.offset : member.offset + member.size])
