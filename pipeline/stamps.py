"""Stamps: notes that a file had its recorded sha256, valid while the file's status is unchanged.

A stamp is a cache and never part of a commit: without it the file is read again. It is invalid
once size, times or inode of a file differ. A file that was changed in the instant in which it was
read could still have the noted status (the "racy git" problem), so a status counts only if it was
older than `MARGIN_NS` when reading began.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from pydantic import ValidationError

from pipeline.documents import Document

MARGIN_NS = 2_000_000_000
"""Least age of a file's times when it was read: the coarsest clock of file systems."""


class FileStatus(Document):
    """The status of a file, without access time.

    A change of content also changes `ctime_ns`, which no program can set.
    """

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


class Stamp(Document):
    """A note that all files of an artifact were read and matched its record.

    Attributes:
        seal: checksum of the record.
        taken_ns: time before the files were read, by the clock of their file system.
        files: status of each file while it was read.
    """

    seal: str
    taken_ns: int
    files: dict[str, FileStatus]

    @property
    def is_settled(self) -> bool:
        """Whether every file was old enough when it was read."""
        newest = max((max(file.mtime_ns, file.ctime_ns) for file in self.files.values()), default=0)
        return self.taken_ns - newest >= MARGIN_NS

    def confirms(self, seal: str, files: Mapping[str, FileStatus]) -> bool:
        """Whether files of this status are known to match the record with this checksum."""
        return self.is_settled and (self.seal, self.files) == (seal, files)


def status_of(path: Path) -> FileStatus:
    """Return the status of a file; a link is followed."""
    found = path.stat()
    return FileStatus(
        size=found.st_size,
        mtime_ns=found.st_mtime_ns,
        ctime_ns=found.st_ctime_ns,
        inode=found.st_ino,
    )


def read_stamp(path: Path) -> Stamp | None:
    """Load a stamp; None if there is none, or it cannot be read."""
    try:
        return Stamp.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def write_stamp(path: Path, stamp: Stamp) -> None:
    """Create or replace a stamp atomically, if its files are old enough and the disk permits it.

    It is not synced: after a power failure it may be empty or missing, which costs one reading.
    """
    if not stamp.is_settled:
        return
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}.tmp")
    with suppress(OSError):
        try:
            temporary.write_text(stamp.model_dump_json(), encoding="utf-8")
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def clock_of(folder: Path) -> int | None:
    """Return the time in ns by the clock of a folder's file system; None if it is not writable.

    The clock of a file server may differ from this machine's.
    """
    probe = folder / f".clock.{uuid4().hex[:8]}.tmp"
    try:
        descriptor = os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            return os.fstat(descriptor).st_mtime_ns
        finally:
            os.close(descriptor)
            probe.unlink(missing_ok=True)
    except OSError:
        return None
