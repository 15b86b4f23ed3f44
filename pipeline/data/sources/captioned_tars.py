"""Webdataset tars of captioned images, as written by img2dataset.

Tars are local files with data members only; see `plain_tar` for the restrictions. webdataset reads
each tar once, in order, to check image headers and read captions. The shuffled images are then read
by their offsets and decoded.
"""

import hashlib
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

from pipeline.config import CaptionedTarsData
from pipeline.data.sources.captioned_images import CaptionedImage, open_captioned
from pipeline.data.sources.captions import MAX_TEXT_BYTES, clean_text, parse_json
from pipeline.data.sources.images import MAX_IMAGE_BYTES, SUFFIXES, check_header
from pipeline.data.sources.loaded_source import LoadedSource
from pipeline.data.sources.plain_tar import Parts, list_tar, read_tar
from pipeline.data.sources.quarantine import Quarantine
from pipeline.data.sources.source import DataSource
from pipeline.errors import DataError, SampleError
from pipeline.ledger import hash_file

_IMAGES = frozenset(suffix.removeprefix(".") for suffix in SUFFIXES)
_LARGEST = dict.fromkeys(_IMAGES, MAX_IMAGE_BYTES) | {"txt": MAX_TEXT_BYTES, "json": MAX_TEXT_BYTES}


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
        for key, members, contents in read_tar(tar, _LARGEST):
            if key in seen:
                raise DataError(
                    f"{tar}: key {key!r} is also in {seen[key]}; remove one of them if they are "
                    "the same tar"
                )
            seen[key] = tar
            with quarantine.catching():
                images.append(_open_sample(tar, key, members, contents))
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
        digest = hash_file(tar).sha256
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


def _open_sample(tar: Path, key: str, members: Parts, contents: dict[str, bytes]) -> CaptionedImage:
    name = f"{tar}, sample {key!r}"
    kinds = sorted(_IMAGES & members.keys())
    if not kinds:
        raise SampleError(name, " has a caption but no image; add the image or remove the caption")
    if len(kinds) > 1:
        raise SampleError(name, f" has {len(kinds)} images ({', '.join(kinds)}); keep one")
    image = members[kinds[0]]
    content = _content(kinds[0], members, contents, name)
    header = check_header(BytesIO(content), name)
    part = (image.offset_data, image.size)
    digest = hashlib.sha256(content).hexdigest()
    caption = _caption(members, contents, name)
    return CaptionedImage(name, caption, digest, header.has_alpha, tar, part)


def _caption(members: Parts, contents: dict[str, bytes], name: str) -> str:
    if "txt" in members:
        try:
            text = _content("txt", members, contents, name).decode()
        except UnicodeDecodeError as error:
            raise SampleError(name, f": the caption is not UTF-8 ({error}); rewrite it") from None
        return clean_text(text, name)
    if "json" in members:
        content = _content("json", members, contents, name)
        tree = parse_json(content, f"{name}: {members['json'].name!r}")
        if "caption" in tree:
            return clean_text(tree["caption"], name)
    raise SampleError(
        name,
        " has no caption (txt, or json with the key caption); add one or remove the image",
    )


def _content(extension: str, members: Parts, contents: dict[str, bytes], name: str) -> bytes:
    if extension not in contents:
        member, most = members[extension], _LARGEST[extension]
        raise SampleError(
            name, f": {member.name!r} has {member.size} bytes, more than {most}; reduce its size"
        )
    return contents[extension]


class CaptionedTars(DataSource[CaptionedTarsData]):
    """Tars of captioned images."""

    name: ClassVar[str] = "captioned_tars"

    def count(self) -> tuple[int, int]:
        """See `count_tars`."""
        return count_tars(self.config), 0

    def identity(self) -> dict[str, Any]:
        """See `identify_tars`."""
        return {"content": identify_tars(self.config)}

    def open(self, seed: int) -> LoadedSource:
        """See `open_tars`."""
        return open_tars(self.config, seed)
