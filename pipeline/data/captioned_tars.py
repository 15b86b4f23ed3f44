"""Webdataset tars of captioned images, as img2dataset writes them.

The tars are local files and their members data: nothing is extracted, names are keys only, and no
name is opened as a path or an address. Each tar is gone through once, which checks the header of
every image and reads every caption; images are decoded when they are read.
"""

import hashlib
import tarfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any, cast

from pipeline.config import CaptionedTarsData
from pipeline.data.captioned_images import CaptionedImage, open_captioned
from pipeline.data.captions import MAX_TEXT_BYTES, clean_text, parse_json
from pipeline.data.images import SUFFIXES, check_header
from pipeline.data.source import LoadedSource
from pipeline.errors import DataError

MAX_IMAGE_BYTES = 256 * 1024**2
_IMAGES = frozenset(suffix.removeprefix(".") for suffix in SUFFIXES)
_CAPTIONS = ("txt", "json")  # of both the first counts: json holds it among other things
_KNOWN = _IMAGES.union(_CAPTIONS)
_BLOCK = 512


def open_tars(config: CaptionedTarsData, seed: int) -> LoadedSource:
    """Open a folder of tars.

    Raises:
        DataError: the folder is missing or holds no tars; a tar is damaged, or holds an image
            without a caption, a caption without an image, an empty caption, an image that cannot
            be used, or a key that another sample has; names the first.
    """
    return open_captioned(config, list_tars(config), seed)


def list_tars(config: CaptionedTarsData) -> list[CaptionedImage]:
    """All captioned images of a folder of tars, in the order of the tars' names.

    Raises:
        DataError: as `open_tars`.
    """
    seen: dict[str, Path] = {}
    images = []
    for tar in _tars(config):
        for key, image in _index(tar):
            if key in seen:
                raise DataError(
                    f"{tar}: key {key!r} stands in {seen[key]} as well; is it the same tar twice?"
                )
            seen[key] = tar
            images.append(image)
    return images


def count_tars(config: CaptionedTarsData) -> int:
    """How many images the tars hold, by names alone.

    Raises:
        DataError: the folder is missing or holds no tars, or a tar is damaged.
    """
    return sum(
        sum(bool(_IMAGES & sample.keys()) for sample in samples.values())
        for samples in (_group(tar) for tar in _tars(config))
    )


def identify_tars(config: CaptionedTarsData) -> dict[str, Any]:
    """What determines the samples, their place aside: names and sha256 of all tars.

    Raises:
        DataError: the folder is missing or holds no tars.
    """
    listing = hashlib.sha256()
    for tar in _tars(config):
        with tar.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        listing.update(repr((tar.name, digest)).encode())
    return {"sha256": listing.hexdigest()}


def _tars(config: CaptionedTarsData) -> list[Path]:
    root = Path(config.path)
    if not root.is_dir():
        raise DataError(f"data.path: {root} is not a folder; give a local one that holds tars")
    tars = sorted(path for path in root.glob("*.tar") if not path.name.startswith("."))
    if not tars:
        raise DataError(f"data.path: {root} holds no *.tar; give the folder the tars lie in")
    return tars


def _index(tar: Path) -> Iterator[tuple[str, CaptionedImage]]:
    samples = _group(tar)
    with _opened(tar) as archive:
        for key, members in samples.items():
            name = f"{tar}, sample {key!r}"
            kinds = sorted(_IMAGES & members.keys())
            if not kinds:
                raise DataError(f"{name} has a caption and no image; add it or remove the caption")
            if len(kinds) > 1:
                raise DataError(f"{name} has {len(kinds)} images ({', '.join(kinds)}); keep one")
            image = members[kinds[0]]
            check_header(_content(archive, image, MAX_IMAGE_BYTES, name), name)
            part = (image.offset_data, image.size)
            yield key, CaptionedImage(name, _caption(archive, members, name), tar, part)


def _group(tar: Path) -> dict[str, dict[str, tarfile.TarInfo]]:
    """The images and captions of a tar, by key and extension."""
    samples: dict[str, dict[str, tarfile.TarInfo]] = defaultdict(dict)
    end = 0
    with _opened(tar) as archive:
        for member in archive:
            end = member.offset_data + -(-member.size // _BLOCK) * _BLOCK
            key, extension = _split(member.name)
            if member.isdir() or extension not in _KNOWN:
                continue
            if not member.isreg() or member.issparse():
                raise DataError(f"{tar}: {member.name!r} is no plain file; write the tar anew")
            if extension in samples[key]:
                raise DataError(f"{tar}: {member.name!r} stands there twice; keep one of them")
            samples[key][extension] = member
    with tar.open("rb") as file:
        file.seek(end)
        # tarfile takes a cut or damaged header for the end of the archive
        if file.read(_BLOCK) != bytes(_BLOCK):
            raise DataError(f"{tar} is cut or damaged at byte {end}; fetch it again")
    return samples


def _split(name: str) -> tuple[str, str]:
    """Key and extension as webdataset takes them: the extension starts at the first dot."""
    folder, slash, file = name.rpartition("/")
    stem, _, extension = file.partition(".")
    return f"{folder}{slash}{stem}", extension.lower()


def _caption(archive: tarfile.TarFile, members: dict[str, tarfile.TarInfo], name: str) -> str:
    for extension in _CAPTIONS:
        if extension not in members:
            continue
        member = members[extension]
        content = _content(archive, member, MAX_TEXT_BYTES, name).read()
        if extension == "json":
            tree = parse_json(content, f"{name}: {member.name!r}")
            if "caption" not in tree:
                continue
            return clean_text(tree["caption"], name)
        return clean_text(_text(content, name), name)
    raise DataError(
        f"{name} has no caption, neither a txt nor a json with the key caption; add it or remove "
        "the image"
    )


def _text(content: bytes, name: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: the caption is not UTF-8 ({error}); rewrite it") from None


def _content(
    archive: tarfile.TarFile, member: tarfile.TarInfo, most: int, name: str
) -> BufferedReader:
    if member.size > most:
        raise DataError(
            f"{name}: {member.name!r} has {member.size} bytes, more than {most}; make it smaller"
        )
    return cast(BufferedReader, archive.extractfile(member))  # None only for what is no file


@contextmanager
def _opened(tar: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(tar, "r:") as archive:
            yield archive
    except (tarfile.TarError, OSError, ValueError) as error:
        raise DataError(f"{tar} is no readable tar ({error}); fetch it again") from None
