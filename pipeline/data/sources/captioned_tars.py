"""Webdataset tars of captioned images, as written by img2dataset.

Tars are local files with data members only; see `plain_tar` for the restrictions. Each tar is read
once to check image headers and read captions. Images are decoded when read.
"""

import hashlib
import tarfile
from io import BufferedReader
from pathlib import Path
from typing import Any, cast

from pipeline.config import CaptionedTarsData
from pipeline.data.sources.captioned_images import CaptionedImage, open_captioned
from pipeline.data.sources.captions import MAX_TEXT_BYTES, clean_text, parse_json
from pipeline.data.sources.images import MAX_IMAGE_BYTES, SUFFIXES, check_header
from pipeline.data.sources.loaded_source import LoadedSource
from pipeline.data.sources.plain_tar import Parts, list_tar, open_tar_file
from pipeline.data.sources.quarantine import Quarantine
from pipeline.errors import DataError, SampleError

_IMAGES = frozenset(suffix.removeprefix(".") for suffix in SUFFIXES)
_CAPTIONS = ("txt", "json")  # in order of preference


def open_tars(config: CaptionedTarsData, seed: int) -> LoadedSource:
    """Open a folder of tars.

    Images without a caption, captions without an image, and unusable images or captions are
    quarantined.

    Raises:
        DataError: the folder is missing or holds no tars; a tar is damaged, has a member that is
            not allowed, or a duplicate key; or more samples are unusable than the recipe allows.
    """
    return open_captioned(config, *list_tars(config), seed)


def list_tars(config: CaptionedTarsData) -> tuple[list[CaptionedImage], Quarantine]:
    """List the captioned images of a folder of tars, by tar name, and the quarantine.

    Raises:
        DataError: as `open_tars`.
    """
    quarantine = Quarantine(config.max_bad, config.path)
    seen: dict[str, Path] = {}
    images = []
    for tar in _tars(config):
        with open_tar_file(tar) as archive:
            for key, members in list_tar(tar).items():
                if key in seen:
                    raise DataError(
                        f"{tar}: key {key!r} is also in {seen[key]}; remove one of them if they "
                        "are the same tar"
                    )
                seen[key] = tar
                with quarantine.catching():
                    images.append(_open_sample(archive, members, f"{tar}, sample {key!r}", tar))
    quarantine.check(len(images) + len(quarantine))
    return images, quarantine


def count_tars(config: CaptionedTarsData) -> int:
    """Count the images in the tars by names alone.

    Raises:
        DataError: the folder is missing or holds no tars, or a tar is damaged.
    """
    return sum(
        sum(bool(_IMAGES & sample.keys()) for sample in samples.values())
        for samples in (list_tar(tar) for tar in _tars(config))
    )


def identify_tars(config: CaptionedTarsData) -> dict[str, Any]:
    """Compute the identity of the samples from names and sha256 of all tars.

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
        raise DataError(f"data.path: {root} is not a folder; use a local folder of tars")
    tars = sorted(path for path in root.glob("*.tar") if not path.name.startswith("."))
    if not tars:
        raise DataError(f"data.path: {root} holds no *.tar; use the folder of the tars")
    return tars


def _open_sample(archive: tarfile.TarFile, members: Parts, name: str, tar: Path) -> CaptionedImage:
    kinds = sorted(_IMAGES & members.keys())
    if not kinds:
        raise SampleError(name, " has a caption but no image; add one or remove the caption")
    if len(kinds) > 1:
        raise SampleError(name, f" has {len(kinds)} images ({', '.join(kinds)}); keep one")
    image = members[kinds[0]]
    check_header(_content(archive, image, MAX_IMAGE_BYTES, name), name)
    part = (image.offset_data, image.size)
    return CaptionedImage(name, _caption(archive, members, name), tar, part)


def _caption(archive: tarfile.TarFile, members: Parts, name: str) -> str:
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
    raise SampleError(
        name,
        " has no caption (txt, or json with the key caption); add one or remove the image",
    )


def _text(content: bytes, name: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise SampleError(name, f": the caption is not UTF-8 ({error}); rewrite it") from None


def _content(
    archive: tarfile.TarFile, member: tarfile.TarInfo, most: int, name: str
) -> BufferedReader:
    if member.size > most:
        raise SampleError(
            name, f": {member.name!r} has {member.size} bytes, more than {most}; reduce its size"
        )
    return cast(BufferedReader, archive.extractfile(member))  # None only for other types than files
