"""Safe listing of untrusted webdataset tars: nothing is extracted, and names are never paths.

Rejected are members that could execute code, refer to other places, unpack to a larger size, or
make tarfile loop or exhaust memory; tools that write data sets do not produce such tars.
"""

import tarfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import IO, cast

from pipeline.errors import DataError

ALLOWED = frozenset({"json", "txt", "cls", "png", "jpg", "jpeg", "webp", "npy", "safetensors"})
"""Allowed members, by the extension after the last dot of their names."""

MAX_HEADER_BYTES = 8192  # maximum size of a long name or a pax header; a path has at most 4096

_PICKLES = frozenset({"pyd", "pkl", "pickle", "pth", "pt", "bin", "ckpt"})
_PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_LONG = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_PAX = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
_BLOCK = tarfile.BLOCKSIZE
_CHUNK = 1024**2

Parts = dict[str, tarfile.TarInfo]
"""The members of one sample, by extension."""


class _Refused(Exception):  # noqa: N818 (never leaves this file)
    """A header that tarfile must not process."""


class _PlainMember(tarfile.TarInfo):
    """A member whose headers are checked before tarfile processes them.

    tarfile reads pax headers of any size into memory, and in Python 3.11 loops forever over sparse
    maps without an end and over members of negative size (CVE-2025-8194).
    """

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> "_PlainMember":
        """Read the next member; called by tarfile."""
        file = cast(IO[bytes], tarfile.fileobj)
        start = file.tell()
        cls._check_header(file.read(_BLOCK), file.read)
        file.seek(start)
        return super().fromtarfile(tarfile)

    @classmethod
    def _check_header(cls, block: bytes, read: Callable[[int], bytes]) -> None:
        with suppress(tarfile.HeaderError):  # tarfile raises the same error itself
            header = cls.frombuf(block, tarfile.ENCODING, "surrogateescape")
            if header.size < 0:
                raise _Refused("has a member of negative size")
            if header.type == tarfile.GNUTYPE_SPARSE:
                raise _Refused(f"holds the sparse file {header.name!r}")
            if header.type == tarfile.XGLTYPE:
                raise _Refused("has a global pax header")
            if header.type in (*_LONG, *_PAX):
                if header.size > MAX_HEADER_BYTES:
                    raise _Refused(f"has a header of {header.size} bytes")
                if header.type in _PAX and b"GNU.sparse." in read(header.size):
                    raise _Refused("holds a sparse file")


def list_tar(tar: Path) -> dict[str, Parts]:
    """List the samples of a tar by key.

    Keys and extensions are as in webdataset: an extension starts at the first dot.

    Raises:
        DataError: the tar is truncated, damaged or compressed, or has a member that is not a plain
            file, not of an allowed type, has no key, has an unsafe path, or is a duplicate.
    """
    samples: dict[str, Parts] = defaultdict(dict)
    end = 0
    with open_tar_file(tar) as archive:
        for member in archive:
            member.pax_headers = {}  # unused, and thousands of bytes each
            end = member.offset_data + -(-member.size // _BLOCK) * _BLOCK
            if member.isdir():
                continue
            _check_member(tar, member)
            key, extension = _split(member.name)
            if extension in samples[key]:
                raise DataError(f"{tar}: duplicate member {member.name!r}; keep one of them")
            samples[key][extension] = member
    _check_end(tar, end)
    return samples


def _check_end(tar: Path, end: int) -> None:
    """Check that no data follows: tarfile treats a truncated or damaged header as the end."""
    with tar.open("rb") as file:
        file.seek(end)
        rest = file.read(_BLOCK)
        if len(rest) < _BLOCK or any(rest):
            raise DataError(f"{tar} is truncated or damaged at byte {end}; download it again")
        while rest := file.read(_CHUNK):
            if rest.count(0) != len(rest):
                raise DataError(
                    f"{tar} is damaged at byte {end}: data follows its end mark; download it "
                    "again, or repack it if it is two concatenated tars"
                )


@contextmanager
def open_tar_file(tar: Path) -> Iterator[tarfile.TarFile]:
    """Open an uncompressed tar for reading.

    Raises:
        DataError: not a tar file, or an unsafe one.
    """
    try:
        _check_unpacked(tar)
        with tarfile.open(tar, "r:", tarinfo=_PlainMember) as archive:
            yield archive
    except _Refused as error:
        raise DataError(f"{tar} {error}, which is not allowed; repack the tar") from None
    except (tarfile.TarError, OSError, ValueError, RecursionError) as error:
        raise DataError(f"{tar} is not a readable tar ({error}); download it again") from None


def _check_unpacked(tar: Path) -> None:
    with tar.open("rb") as file:
        start = file.read(max(map(len, _PACKED)))
    for magic, name in _PACKED.items():
        if start.startswith(magic):
            raise DataError(f"{tar} is compressed by {name}; decompress it to a plain tar")


def _check_member(tar: Path, member: tarfile.TarInfo) -> None:
    name = member.name
    if not member.isreg() or member.issparse() or member.size < 0:
        raise DataError(f"{tar}: {name!r} is not a plain file; repack the tar without it")
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        raise DataError(
            f"{tar}: unsafe path {name!r}; absolute paths and '..' are not allowed, so do not use "
            "this tar"
        )
    if not _split(path.name)[0]:
        raise DataError(f"{tar}: {name!r} has no key before its first dot; rename or remove it")
    kind = name.rpartition(".")[2].lower()
    if kind in _PICKLES:
        raise DataError(
            f"{tar}: {name!r} may be a pickle, which can run code; do not use this tar, or repack "
            "it without this member"
        )
    if kind not in ALLOWED:
        raise DataError(
            f"{tar}: {name!r} has an unsupported type; repack the tar with only "
            f"{', '.join(sorted(ALLOWED))}"
        )


def _split(name: str) -> tuple[str, str]:
    folder, slash, file = name.rpartition("/")
    stem, _, extension = file.partition(".")
    return f"{folder}{slash}{stem}", extension.lower()
