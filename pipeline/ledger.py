"""The ledger of committed artifacts: an artifact exists iff its commit record exists and verifies.

Order of a commit: write into a temporary sibling, fsync every file and directory, rename into
place, then write, fsync and rename the record. A crash at any point leaves either an artifact that
verifies or no artifact. Files without a record are debris and are removed by the next attempt.

Beside a record may be a stamp (`pipeline.stamps`), a cache: it saves reading unchanged files again.
"""

import glob
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal
from uuid import uuid4

from filelock import FileLock, Timeout
from pydantic import ValidationError, model_validator

from pipeline.documents import Document
from pipeline.durable import make_folder, sync, sync_tree, write_durably
from pipeline.errors import BusyError, ConfigError
from pipeline.failpoints import failpoint
from pipeline.identity import Identity, identify
from pipeline.run_files import LOCK, LOCK_HOLDER, RECORDS, STAMP_SUFFIX, is_reserved
from pipeline.stamps import FileStatus, Stamp, clock_of, read_stamp, status_of, write_stamp

_log = logging.getLogger(__name__)

FORMAT_VERSION: Final = 8
"""Format of a run directory: its records, and the content of fingerprints."""

KEY_LENGTH = 32
"""Number of fingerprint characters in a record's file name."""


class FileRecord(Document):
    """One file of an artifact: size in bytes and sha256 in hex."""

    size: int
    sha256: str


class Artifact(Document):
    """A committed artifact: the value passed between Prefect tasks, Ray workers and stages.

    Attributes:
        kind: artifact type (`data`, `targets`, `student`, ...).
        fingerprint: hash of all inputs that determine it; its key in the ledger.
        path: location relative to the run directory.
        files: its files, by path relative to `path` (one entry "." if it is a single file).
        parents: fingerprints of the artifacts it was made from.
        details: small facts about it (counts, steps).
        seal: checksum of this record, to detect damage; "" until the artifact is committed.
    """

    format_version: Literal[8] = FORMAT_VERSION
    kind: str
    fingerprint: str
    path: str
    files: dict[str, FileRecord]
    parents: tuple[str, ...] = ()
    details: dict[str, Any] = {}
    seal: str = ""

    @model_validator(mode="after")
    def _is_sound(self) -> "Artifact":
        for name in (self.path, *(name for name in self.files if name != ".")):
            if not is_inside(name):
                raise ValueError(f"path {name!r} is not a plain path below the run directory")
        if self.seal and self.seal != self.sealed().seal:
            raise ValueError("checksum mismatch: the record was changed or damaged")
        return self

    def sealed(self) -> "Artifact":
        """Return a copy with the checksum of its content."""
        content = json.loads(self.model_dump_json(exclude={"seal"}))
        return self.model_copy(update={"seal": fingerprint(content)})

    @property
    def digest(self) -> str:
        """Hash of the content: equal digests are equal bytes."""
        return fingerprint({name: record.sha256 for name, record in self.files.items()})


def is_inside(path: str) -> bool:
    """Whether a path is relative, normalised and stays below its root."""
    parts = PurePosixPath(path).parts
    plain = path == "/".join(parts) and bool(parts) and ".." not in parts
    return plain and "\0" not in path and not path.startswith("/")


def fingerprint(content: Any) -> str:
    """Compute the sha256 in hex of the canonical JSON of `content`."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _verify_file(path: Path, expected: FileRecord) -> FileStatus | str:
    """Return the status of a file that matches its record, or describe its problem.

    The status is from before the file is read: a change while it is read makes another.
    """
    if not path.is_file():
        return f"{path} is missing"
    status = status_of(path)
    if status.size != expected.size:
        return f"{path} has {status.size} bytes, its record has {expected.size}"
    if hash_file(path).sha256 != expected.sha256:
        return f"{path}: sha256 differs from its record"
    return status


def _threads() -> int:
    """Return the number of threads that compute sha256; more do not read a disk faster."""
    return min(len(os.sched_getaffinity(0)), 8)


def hash_file(path: Path) -> FileRecord:
    """Compute size and sha256 of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileRecord(size=path.stat().st_size, sha256=digest)


class Ledger:
    """The commit records of one run directory, in its `ledger/` folder."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir

    def find(self, key: str) -> Artifact | None:
        """Return the committed artifact with this fingerprint, files verified; None if absent."""
        return self.find_all([key]).get(key)

    def find_all(self, keys: Iterable[str]) -> dict[str, Artifact]:
        """Return the committed artifacts with these fingerprints, files verified, by fingerprint.

        Records are checked as in `read`; one that is broken is logged and otherwise absent.
        Files are read in parallel, or not at all where a stamp confirms them.
        """
        records = {key: path for key in keys if (path := self.record_path(key)).exists()}
        sound, broken = self._judge(records.values())
        for record, problem in broken.items():  # a broken record is no commit
            _log.warning("ledger: ignored record=%s problem=%s", record, problem)
        recorded = [artifact for artifact in sound if artifact.fingerprint in records]
        return {found.fingerprint: found for found, damage in self._check(recorded) if not damage}

    def records(self) -> list[Artifact]:
        """Return all records, oldest first, without verifying files."""
        return self.read()[0]

    def read(self) -> tuple[list[Artifact], dict[Path, str]]:
        """Return all records, oldest first, and the problem of each file that is not a record."""
        found = (self.run_dir / RECORDS).glob("*.json")
        return self._judge(sorted(found, key=lambda path: path.stat().st_mtime_ns))

    def _judge(self, records: Iterable[Path]) -> tuple[list[Artifact], dict[Path, str]]:
        """Return the artifacts of some record files, and the problem of each broken one."""
        read: dict[Path, Artifact] = {}
        broken: dict[Path, str] = {}
        for record in records:
            try:
                read[record] = _read(record)
            except ValueError as error:
                broken[record] = str(error)
        above = self._folders_of_artifacts() if read else {}
        for record, artifact in read.items():
            # removal of an artifact would delete those inside it
            if any(_is_sound(each) for each in above.get(artifact.path, ())):
                broken[record] = f"its path {artifact.path!r} contains other artifacts"
        return [artifact for record, artifact in read.items() if record not in broken], broken

    def _folders_of_artifacts(self) -> dict[str, list[Path]]:
        """Return the record files of the artifacts inside each folder, without validation."""
        found: dict[str, list[Path]] = {}
        for record in (self.run_dir / RECORDS).glob("*.json"):
            try:
                path = json.loads(record.read_bytes())["path"]
            except (OSError, ValueError, TypeError, KeyError, RecursionError):
                continue
            for folder in PurePosixPath(path).parents if isinstance(path, str) else ():
                found.setdefault(str(folder), []).append(record)
        return found

    def damage(self, artifact: Artifact) -> str | None:
        """Describe the first missing or changed file of the artifact; None if all verify.

        Files are not read where a stamp confirms them.
        """
        [(_, damage)] = self._check([artifact])
        return damage

    def read_all(self, artifacts: Sequence[Artifact]) -> Iterator[tuple[Artifact, list[str]]]:
        """Yield each artifact with the problems of all its files; every byte is read."""
        for artifact, files in self._read_files(artifacts):
            problems = []
            for file in files.values():
                try:
                    found = file.result()
                except OSError as error:
                    found = f"{error.filename} cannot be read ({error.strerror})"
                problems += [found] if isinstance(found, str) else []
            yield artifact, problems

    def _check(self, artifacts: Sequence[Artifact]) -> Iterator[tuple[Artifact, str | None]]:
        """Yield each artifact with the problem of its first file that does not verify.

        The process that holds the run directory stamps what it read.
        """
        unread = []
        for artifact in artifacts:
            if self._is_stamped(artifact):
                yield artifact, None
            else:
                unread.append(artifact)
        is_holder = bool(unread) and lock_holder(self.run_dir) == identify()
        taken_ns = clock_of(self.run_dir / RECORDS) if is_holder else None
        for artifact, files in self._read_files(unread):
            found = {name: file.result() for name, file in files.items()}
            problems = [file for file in found.values() if isinstance(file, str)]
            if taken_ns is not None and not problems:
                known = {name: file for name, file in found.items() if isinstance(file, FileStatus)}
                stamp = Stamp(seal=artifact.seal, taken_ns=taken_ns, files=known)
                write_stamp(self._stamp_path(artifact), stamp)
            yield artifact, next(iter(problems), None)

    def _is_stamped(self, artifact: Artifact) -> bool:
        stamp = read_stamp(self._stamp_path(artifact))
        if stamp is None or not artifact.seal:
            return False
        try:
            files = {name: status_of(path) for name, path in self._files(artifact).items()}
        except OSError:
            return False  # described by whoever reads the files
        return stamp.confirms(artifact.seal, files)

    def _read_files(
        self, artifacts: Sequence[Artifact]
    ) -> Iterator[tuple[Artifact, dict[str, "Future[FileStatus | str]"]]]:
        """Yield each artifact with its files, which several threads read."""
        pool = ThreadPoolExecutor(_threads(), thread_name_prefix="sha256")
        try:
            started = [
                {
                    name: pool.submit(_verify_file, path, artifact.files[name])
                    for name, path in self._files(artifact).items()
                }
                for artifact in artifacts
            ]
            yield from zip(artifacts, started, strict=True)
        finally:
            pool.shutdown(cancel_futures=True)

    def _files(self, artifact: Artifact) -> dict[str, Path]:
        root = self.locate(artifact)
        return {name: root if name == "." else root / name for name in artifact.files}

    def _stamp_path(self, artifact: Artifact) -> Path:
        return self.record_path(artifact.fingerprint).with_suffix(STAMP_SUFFIX)

    def locate(self, artifact: Artifact) -> Path:
        """Return the absolute path of an artifact."""
        return self.run_dir / artifact.path

    def publish(
        self,
        kind: str,
        key: str,
        path: str,
        write: Callable[[Path], dict[str, Any]],
        parents: tuple[str, ...] = (),
    ) -> Artifact:
        """Create an artifact: call `write` on a temporary path, then commit the result.

        Args:
            kind: artifact type.
            key: its fingerprint.
            path: its final location, relative to the run directory.
            write: fills the temporary path (a directory, or a file if `path` has a suffix) and
                returns the artifact's details.
            parents: fingerprints of the artifacts it is made from.
        """
        final = self.run_dir / path
        make_folder(final.parent)
        for debris in final.parent.glob(f".{glob.escape(final.name)}.*.tmp"):
            _remove(debris)  # left by a killed attempt
        temporary = final.with_name(f".{final.name}.{uuid4().hex[:8]}.tmp")
        try:
            if not final.suffix:
                temporary.mkdir()
            details = write(temporary)
            failpoint("publish.written")
            artifact = Artifact(
                kind=kind,
                fingerprint=key,
                path=path,
                files=_hash_tree(temporary),
                parents=parents,
                details=details,
            ).sealed()
            sync_tree(temporary)
            failpoint("publish.synced")
            _replace(temporary, final)
            failpoint("publish.renamed")
        finally:
            _remove(temporary)
        sync(final.parent)
        failpoint("publish.unrecorded")
        write_durably(self.record_path(key), artifact.model_dump_json(indent=1))
        return artifact

    def forget(self, artifact: Artifact) -> None:
        """Remove an artifact: its record first, then its files."""
        record = self.record_path(artifact.fingerprint)
        record.unlink(missing_ok=True)
        self._stamp_path(artifact).unlink(missing_ok=True)
        sync(record.parent)  # else a power failure could restore the record without its files
        failpoint("forget.unrecorded")
        _remove(self.locate(artifact))

    def record_path(self, key: str) -> Path:
        """Return the path of the commit record for this fingerprint; it need not exist."""
        return self.run_dir / RECORDS / f"{key[:KEY_LENGTH]}.json"


def _read(record: Path) -> Artifact:
    """Load a commit record.

    Raises:
        ValueError: the file is not a valid record; the message says why.
    """
    try:
        text = record.read_text(encoding="utf-8")
        version = json.loads(text).get("format_version")
        if version == FORMAT_VERSION:
            artifact = Artifact.model_validate_json(text)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise ValueError(f"is not a record: {where}: {problem['msg']}") from None
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise ValueError(f"cannot be read: {error}") from None
    if version is None:  # the default is for records that are made, not for those that are read
        raise ValueError("is not a record: format_version: Field required")
    if version != FORMAT_VERSION:
        raise ValueError(f"is of format {version!r}, this version reads {FORMAT_VERSION}")
    if not artifact.seal:
        raise ValueError("has no seal, so it was changed or damaged")
    if artifact.fingerprint[:KEY_LENGTH] != record.stem:
        raise ValueError(f"is the record of {artifact.fingerprint[:12]} under another name")
    if not artifact.files:
        raise ValueError(f"its path {artifact.path!r} has no files")
    if is_reserved(artifact.path):
        raise ValueError(f"its path {artifact.path!r} is reserved for the run")
    return artifact


def _is_sound(record: Path) -> bool:
    try:
        _read(record)
    except ValueError:
        return False
    return True


def check_format(run_dir: Path) -> None:
    """Refuse a run directory of another format.

    All its records have one format, so the first readable record is enough.

    Raises:
        ConfigError: the run directory has another format.
    """
    for record in sorted((run_dir / RECORDS).glob("*.json")):
        found = _format_of(record)
        if found == FORMAT_VERSION:
            return
        if found is not None:
            raise ConfigError(
                f"{run_dir} has format {found}, this version of Stepfold needs format "
                f"{FORMAT_VERSION}; start a new run with another --run-dir, or use the version "
                "that wrote it"
            )


def _format_of(record: Path) -> int | None:
    """Return the format number of a record; None if it cannot be read."""
    try:
        found = json.loads(record.read_text(encoding="utf-8"))["format_version"]
    except (ValueError, OSError, KeyError, TypeError, RecursionError):
        return None
    return found if isinstance(found, int) else None


def _hash_tree(path: Path) -> dict[str, FileRecord]:
    if path.is_file():
        return {".": hash_file(path)}
    found = sorted(file for file in path.rglob("*") if file.is_file())
    with ThreadPoolExecutor(_threads(), thread_name_prefix="sha256") as pool:
        names = [file.relative_to(path).as_posix() for file in found]
        return dict(zip(names, pool.map(hash_file, found), strict=True))


def _replace(temporary: Path, final: Path) -> None:
    _remove(final)  # from here on its record does not verify, so the old artifact is gone
    failpoint("publish.removed")
    temporary.rename(final)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def lock_run_dir(run_dir: Path) -> Iterator[None]:
    """Lock a run directory for this process.

    Raises:
        BusyError: another process holds the lock; the message names it.
    """
    make_folder(run_dir)
    holder = run_dir / LOCK_HOLDER
    lock = FileLock(run_dir / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise BusyError(
            f"{run_dir} is in use by {_describe_holder(run_dir)}; wait for it, or stop it first"
        ) from None
    try:
        holder.write_text(identify().model_dump_json(), encoding="utf-8")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def lock_holder(run_dir: Path) -> Identity | None:
    """Return the recorded holder of a run directory; None if it is not held."""
    try:
        return Identity.model_validate_json((run_dir / LOCK_HOLDER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _describe_holder(run_dir: Path) -> str:
    holder = lock_holder(run_dir)
    if holder is None:  # the holder is just starting or just ending
        return "another process"
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(holder.started))
    return f"process {holder.pid} on {holder.host}, which started at {since} UTC"
