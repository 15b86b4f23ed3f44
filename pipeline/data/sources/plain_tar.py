"""Safe reading of untrusted webdataset tars: nothing is extracted, and names are never paths.

Every header is checked before webdataset reads the members in order. Rejected are members that
could execute code, refer to other places, unpack to a larger size, or make tarfile loop or exhaust
memory; tools that write data sets do not produce such tars.
"""

import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO, cast

from pipeline.errors import DataError

ALLOWED = frozenset({"json", "txt", "cls", "png", "jpg", "jpeg", "webp", "npy", "safetensors"})
"""Allowed members, by the extension after the last dot of their names."""

MAX_HEADER_BYTES = 8192  # maximum size of a long name or a pax header; a path has at most 4096

_PICKLES = frozenset({"pyd", "pkl", "pickle", "pth", "pt", "bin", "ckpt"})
_PACKED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x5d\x00\x00\x80": "lzma",
    b"\x28\xb5\x2f\xfd": "zstd",
}
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
    """Check all headers of a tar and list its samples by key, in the order of the tar.

    Keys and extensions are as in webdataset: an extension starts at the first dot.

    Raises:
        DataError: the tar is truncated, damaged or compressed, or has a member that is not a plain
            file, not of an allowed type, has no key, has an unsafe path, is a duplicate, or is not
            next to the others of its sample.
    """
    samples: dict[str, Parts] = {}
    end = 0
    key = None
    with _translated(tar):
        _check_unpacked(tar)
        with tarfile.open(tar, "r:", tarinfo=_PlainMember) as archive:
            for member in archive:
                member.pax_headers = {}  # unused, and thousands of bytes each
                end = member.offset_data + -(-member.size // _BLOCK) * _BLOCK
                if member.isdir():
                    continue
                _check_member(tar, member)
                previous, (key, extension) = key, _split(member.name)
                parts = samples.setdefault(key, {})
                if extension in parts:
                    raise DataError(f"{tar}: duplicate member {member.name!r}; keep one of them")
                if parts and key != previous:
                    raise DataError(
                        f"{tar}: {member.name!r} is not next to the other members of its sample, "
                        "as webdataset needs; repack the tar with its members sorted by name"
                    )
                parts[extension] = member
    _check_end(tar, end)
    return samples


def read_tar(
    tar: Path, largest: Mapping[str, int]
) -> Iterator[tuple[str, Parts, dict[str, bytes]]]:
    """Read the samples of a tar in order: key, members, and contents by extension.

    Args:
        tar: path of the tar.
        largest: the extensions to read, with the largest size in bytes; larger members are skipped.

    Raises:
        DataError: as `list_tar`.
    """
    samples = list_tar(tar)
    wanted = {
        member.name
        for parts in samples.values()
        for extension, member in parts.items()
        if member.size <= largest.get(extension, -1)
    }
    with _translated(tar), tar.open("rb") as file:
        groups = stream_tar(file, wanted.__contains__)
        group = next(groups, {})
        for key, parts in samples.items():
            if group.get("__key__") != key:
                yield key, parts, {}  # nothing of this sample is wanted
                continue
            yield key, parts, {name: group[name] for name in parts.keys() & group.keys()}
            group = next(groups, {})


def stream_tar(
    file: BinaryIO, select: Callable[[str], bool] | None = None
) -> Iterator[dict[str, Any]]:
    """Read an open tar in order by webdataset: one dictionary per sample, contents not decoded.

    webdataset gets no URL, which could start a process. It treats a damaged header as the end.

    Args:
        file: the tar, with headers that are checked or our own.
        select: whether to read a member, by name; None for all.

    Yields:
        Contents by extension, and the key as `__key__`.
    """
    from webdataset.tariterators import group_by_keys, tar_file_iterator  # slow import

    members = tar_file_iterator(file, skip_meta=None, select_files=select)
    yield from group_by_keys({**member, "__url__": file.name} for member in members)


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
def _translated(tar: Path) -> Iterator[None]:
    """Raise DataError for errors of tarfile."""
    try:
        yield
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
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\n" in name:
        raise DataError(
            f"{tar}: unsafe path {name!r}; absolute paths, '..', backslashes and line breaks are "
            "not allowed, so do not use this tar"
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
