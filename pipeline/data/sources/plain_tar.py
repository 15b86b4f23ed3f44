"""A webdataset tar from anywhere, listed as data: nothing is extracted, and no name is a path.

Whatever could execute, point elsewhere, unpack to more than it is, or make tarfile itself loop or
grow is refused by name: such a tar was not written by the tools that write data sets.
"""

import tarfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import IO, cast

from pipeline.errors import DataError

ALLOWED = frozenset({"json", "txt", "cls", "png", "jpg", "jpeg", "webp", "npy", "safetensors"})
"""What members may be, by what follows the last dot of their names."""

MAX_HEADER_BYTES = 8192  # of a long name or a pax header; a path has 4096 at most

_PICKLES = frozenset({"pyd", "pkl", "pickle", "pth", "pt", "bin", "ckpt"})
_PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_LONG = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_PAX = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
_BLOCK = tarfile.BLOCKSIZE
_CHUNK = 1024**2

Parts = dict[str, tarfile.TarInfo]
"""The members of one sample, by extension."""


class _Refused(Exception):  # noqa: N818 (never leaves this file)
    """A header that tarfile must not act on."""


class _PlainMember(tarfile.TarInfo):
    """A member whose headers are looked at before tarfile acts on them.

    tarfile reads a pax header of any size into memory, and in Python 3.11 loops for ever over
    sparse maps without an end and over members of negative size (CVE-2025-8194).
    """

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> "_PlainMember":
        """The next member, as tarfile asks for it."""
        file = cast(IO[bytes], tarfile.fileobj)
        start = file.tell()
        cls._look(file.read(_BLOCK), file.read)
        file.seek(start)
        return super().fromtarfile(tarfile)

    @classmethod
    def _look(cls, block: bytes, read: Callable[[int], bytes]) -> None:
        with suppress(tarfile.HeaderError):  # tarfile raises the same again, and ends there
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
    """The samples of a tar, by key.

    Keys and extensions are as webdataset takes them: an extension starts at the first dot.

    Raises:
        DataError: the tar is cut, damaged or compressed, or has a member that is no plain file,
            is not of an allowed kind, has no key, names a path outside, or stands there twice.
    """
    samples: dict[str, Parts] = defaultdict(dict)
    end = 0
    with open_tar_file(tar) as archive:
        for member in archive:
            member.pax_headers = {}  # thousands of bytes each, and nobody asks
            end = member.offset_data + -(-member.size // _BLOCK) * _BLOCK
            if member.isdir():
                continue
            _check_member(tar, member)
            key, extension = _split(member.name)
            if extension in samples[key]:
                raise DataError(f"{tar}: {member.name!r} stands there twice; keep one of them")
            samples[key][extension] = member
    _check_end(tar, end)
    return samples


def _check_end(tar: Path, end: int) -> None:
    """See that nothing follows: tarfile takes a cut, damaged or blank header for the end."""
    with tar.open("rb") as file:
        file.seek(end)
        rest = file.read(_BLOCK)
        if len(rest) < _BLOCK or any(rest):
            raise DataError(f"{tar} is cut or damaged at byte {end}; fetch it again")
        while rest := file.read(_CHUNK):
            if rest.count(0) != len(rest):
                raise DataError(
                    f"{tar} is damaged at byte {end}: it ends there, and goes on after it; fetch "
                    "it again, or unpack and write it anew if it is two tars in one file"
                )


@contextmanager
def open_tar_file(tar: Path) -> Iterator[tarfile.TarFile]:
    """An uncompressed tar, open for reading.

    Raises:
        DataError: it is none, or one that must not be read.
    """
    try:
        _check_unpacked(tar)
        with tarfile.open(tar, "r:", tarinfo=_PlainMember) as archive:
            yield archive
    except _Refused as error:
        raise DataError(f"{tar} {error}, which no data set needs; write the tar anew") from None
    except (tarfile.TarError, OSError, ValueError, RecursionError) as error:
        raise DataError(f"{tar} is no readable tar ({error}); fetch it again") from None


def _check_unpacked(tar: Path) -> None:
    with tar.open("rb") as file:
        start = file.read(max(map(len, _PACKED)))
    for magic, name in _PACKED.items():
        if start.startswith(magic):
            raise DataError(f"{tar} is compressed by {name}; unpack it, shards are plain tars")


def _check_member(tar: Path, member: tarfile.TarInfo) -> None:
    name = member.name
    if not member.isreg() or member.issparse() or member.size < 0:
        raise DataError(f"{tar}: {name!r} is no plain file; write the tar anew")
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        raise DataError(
            f"{tar}: {name!r} names a path outside; do not use this tar, an honest one has plain "
            "names"
        )
    if not _split(path.name)[0]:
        raise DataError(f"{tar}: {name!r} has no key before its first dot; rename or remove it")
    kind = name.rpartition(".")[2].lower()
    if kind in _PICKLES:
        raise DataError(
            f"{tar}: {name!r} may be a pickle, which can run code; do not use this tar, or write "
            "it anew without"
        )
    if kind not in ALLOWED:
        raise DataError(
            f"{tar}: {name!r} is none of {', '.join(sorted(ALLOWED))}; write the tar anew without"
        )


def _split(name: str) -> tuple[str, str]:
    folder, slash, file = name.rpartition("/")
    stem, _, extension = file.partition(".")
    return f"{folder}{slash}{stem}", extension.lower()
