"""Webdataset tars with an index file, for random access.

Python's tarfile treats a damaged header as the end of the archive, so a truncated tar yields fewer
samples and no error. Here the index defines the content, tar headers are not read, and any mismatch
is an error. Other tools can read the same tars sequentially without the index.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import Literal, TypeVar

import torch
from pydantic import NonNegativeInt, ValidationError, model_validator
from webdataset import TarWriter

from pipeline.documents import Document
from pipeline.errors import DataError, InfraError
from pipeline.failpoints import failpoint

_BLOCK = 512
_RECORD = 10240
_REMAKE = "restore the file, or delete the data and run again to rebuild it"


class Member(Document):
    """One member of a tar: name, offset from the start of the file, and size, in bytes."""

    name: str
    offset: NonNegativeInt
    size: NonNegativeInt


class TarIndex(Document):
    """Index of one tar.

    Attributes:
        size: bytes of the whole tar.
        count: number of samples.
        members: the members in the order of the tar.
    """

    format_version: Literal[1] = 1
    size: NonNegativeInt
    count: NonNegativeInt
    members: tuple[Member, ...]

    @model_validator(mode="after")
    def _members_lie_inside(self) -> "TarIndex":
        for member in self.members:
            end = member.offset + member.size
            if end > self.size:
                raise ValueError(f"{member.name} ends at byte {end}, the tar at {self.size}")
        return self


I = TypeVar("I", bound=TarIndex)  # noqa: E741 (an index)


class IndexedTarWriter:
    """Write a webdataset tar and record the offset of each member.

    The bytes depend on the content alone: no times, no owners. Use as a context manager; on exit,
    an incomplete tar (full disk) raises InfraError.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        index_path(path).unlink(missing_ok=True)  # an unfinished tar without an index is not read
        self._file = path.open("wb")
        self._tar = TarWriter(
            self._file, user="stepfold", group="stepfold", mode=0o444, encoder=False, mtime=0
        )
        self._end = 0

    def __enter__(self) -> "IndexedTarWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # after an error, a failure to close adds no information
        with suppress(InfraError) if error else nullcontext(), self._writing(), self._file:
            self._tar.close()
        if error is None and self._path.stat().st_size != self.size:
            raise InfraError(
                f"{self._path} has {self._path.stat().st_size} bytes after writing {self.size}; "
                "check for a full disk and run again"
            )

    @property
    def size(self) -> int:
        """Size of the closed tar in bytes: members and two empty blocks, padded to a record."""
        return _round_up(self._end + 2 * _BLOCK, _RECORD)

    def add(self, key: str, parts: dict[str, bytes]) -> list[Member]:
        """Append one sample: a member `key.extension` for each entry of `parts`."""
        with self._writing():
            self._tar.write({"__key__": key, **parts})
        added = []
        for extension in sorted(parts):  # the order of TarWriter
            member = Member(
                name=f"{key}.{extension}", offset=self._end + _BLOCK, size=len(parts[extension])
            )
            self._end = member.offset + _round_up(member.size, _BLOCK)
            added.append(member)
        return added

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InfraError(
                f"{self._path} cannot be written ({error.strerror}); free disk space and run again"
            ) from None


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def index_path(tar: Path) -> Path:
    """Return the path of a tar's index."""
    return tar.with_suffix(".index.json")


def write_index(tar: Path, index: TarIndex) -> None:
    """Write the index of a tar."""
    failpoint("tar.closed")
    index_path(tar).write_text(index.model_dump_json(), encoding="utf-8")


def first_problem(error: ValidationError | UnicodeDecodeError) -> str:
    """Format the first problem of an invalid JSON document in one line."""
    if isinstance(error, UnicodeDecodeError):
        return str(error)
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    what = problem["msg"].removeprefix("Value error, ")
    return f"{where}: {what}" if where else what


def open_tar(tar: Path, kind: type[I]) -> tuple[I, memoryview]:
    """Read the index of a tar and map the tar into memory.

    The mapping keeps no file open, so thousands of tars can be mapped.

    Raises:
        DataError: a file is missing, the index is invalid, or the tar's size differs from it.
    """
    path = index_path(tar)
    try:
        index = kind.model_validate_json(path.read_text(encoding="utf-8"))
        size = tar.stat().st_size
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read ({error.strerror}); {_REMAKE}") from None
    except (ValidationError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is damaged: {first_problem(error)}; {_REMAKE}") from None
    if size != index.size:
        raise DataError(f"{tar} has {size} bytes, its index has {index.size}; {_REMAKE}")
    mapped = torch.from_file(str(tar), shared=False, size=size, dtype=torch.uint8)
    return index, mapped.numpy().data
