"""A folder of images with one sub-folder per class; unusable images are quarantined.

Names and headers of all images are checked before the first is decoded; see `images` for the
supported formats.
"""

import hashlib
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from pipeline.class_names import in_order
from pipeline.config import ImageFolderData
from pipeline.data.sources.findings import Findings, find_copies
from pipeline.data.sources.images import (
    SUFFIXES,
    Mode,
    check_header,
    decode_upright,
    refuse_transparent,
)
from pipeline.data.sources.loaded_source import LoadedSource, stratified_split
from pipeline.data.sources.quarantine import Quarantine
from pipeline.data.sources.source import DataSource
from pipeline.errors import DataError
from pipeline.ledger import hash_file

_MODES: dict[int, Mode] = {1: "L", 3: "RGB"}


def list_classes(root: Path) -> dict[str, list[Path]]:
    """List the images of each class, sorted by name, without names with a leading dot.

    Classes whose names are all numbers are sorted by number.

    Raises:
        DataError: the folder, its sub-folders or their images are missing, there are other
            files, or two names are the same number.
    """
    if not root.is_dir():
        raise DataError(
            f"data.path: {root} is not a folder; use a folder with one sub-folder per class"
        )
    folders = [folder.name for folder in _visible(root) if folder.is_dir()]
    try:
        names = in_order(folders)
    except DataError as error:
        raise DataError(f"data.path: {root}: {error}") from None
    classes = {name: [_checked_name(path) for path in _visible(root / name)] for name in names}
    if not classes:
        raise DataError(f"{root} has no sub-folders; put the images into one sub-folder per class")
    for name, images in classes.items():
        _check_class_name(name)
        if not images:
            raise DataError(f"{root / name} holds no images; add some or remove the folder")
    return classes


def identify_folder(config: ImageFolderData) -> dict[str, Any]:
    """Compute the identity of a folder's samples from names and sha256 of all images.

    Raises:
        DataError: the folder cannot be used; see `list_classes` and `open_folder`.
    """
    classes = list_classes(Path(config.path))
    _usable(classes, config)
    listing = hashlib.sha256()
    for name, images in classes.items():
        for image in images:
            digest = hash_file(image).sha256
            listing.update(repr((name, image.name, digest)).encode())
    return {"sha256": listing.hexdigest()}


def open_folder(config: ImageFolderData, seed: int) -> LoadedSource:
    """Open a folder of images, which are decoded when read.

    Raises:
        DataError: the folder cannot be used, a class has one image only, an image has a size that
            the recipe does not allow, or more images are unusable than the recipe allows.
    """
    classes = list_classes(Path(config.path))
    images, labels, with_alpha, quarantine = _usable(classes, config)
    names = tuple(classes)
    contents = [hash_file(image).sha256 for image in images]
    copies, crossing = find_copies(contents, labels)
    root = Path(config.path)
    findings = Findings(
        kind="image",
        total=len(images),
        name=lambda index: images[index].relative_to(root).as_posix(),
        background=config.alpha,
        with_alpha=with_alpha,
        copies=copies,
        crossing=crossing,
    )

    def read(index: int) -> NDArray[np.uint8]:
        pixels, was_transparent = _decode(images[index], config)
        findings.note_decoded(index, transparent=was_transparent)
        return pixels

    return LoadedSource(
        name=config.source,
        class_names=names,
        latent_shape=(config.channels, config.size, config.size),
        encoding="png",
        labels=labels,
        read=read,
        splits=stratified_split(labels, names, config.holdout, seed, contents),
        quarantine=quarantine,
        findings=findings,
    )


def _usable(
    classes: dict[str, list[Path]], config: ImageFolderData
) -> tuple[list[Path], NDArray[np.int64], list[int], Quarantine]:
    """List the images with valid headers, their classes, those with alpha, and the quarantine."""
    quarantine = Quarantine(config.max_bad, config.path)
    images: list[Path] = []
    labels: list[int] = []
    with_alpha: list[int] = []
    for label, members in enumerate(classes.values()):
        for image in members:
            with quarantine.catching():
                if _check_header(image, config):
                    with_alpha.append(len(images))
                images.append(image)
                labels.append(label)
    quarantine.check(len(images) + len(quarantine))
    if config.alpha == "refuse":
        refuse_transparent((images[row], str(images[row])) for row in with_alpha)
    return images, np.array(labels, np.int64), with_alpha, quarantine


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _checked_name(path: Path) -> Path:
    if path.suffix.lower() not in SUFFIXES or not path.is_file():
        raise DataError(
            f"{path} is not a supported image file; convert it to one of "
            f"{', '.join(sorted(SUFFIXES))}, or move it out of the class folder"
        )
    return path


def _check_class_name(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise DataError(f"folder {name!r}: the name is not valid UTF-8; rename it") from None


def _check_header(path: Path, config: ImageFolderData) -> bool:
    """Validate an image by its header; returns whether it has an alpha channel."""
    width, height, has_alpha = check_header(path, str(path))
    if config.resize == "refuse" and (width, height) != (config.size, config.size):
        raise DataError(
            f"{path} is {width}x{height}, expected {config.size}x{config.size} (data.size); set "
            "data.resize: crop to scale and crop all images, or change data.size"
        )
    return has_alpha


def _decode(path: Path, config: ImageFolderData) -> tuple[NDArray[np.uint8], bool]:
    """Decode an image; returns its pixels, and whether some of them were transparent."""
    upright, was_transparent = decode_upright(
        path, str(path), _MODES[config.channels], config.alpha
    )
    side = (config.size, config.size)
    if upright.size != side:
        upright = ImageOps.fit(upright, side, method=Image.Resampling.LANCZOS)
    pixels = np.asarray(upright).reshape(*side, config.channels).transpose(2, 0, 1)
    return pixels, was_transparent


class ImageFolder(DataSource[ImageFolderData]):
    """A folder of images with one sub-folder per class."""

    name: ClassVar[str] = "image_folder"

    def count(self) -> tuple[int, int]:
        """Count files and sub-folders by name."""
        files = [file for file in Path(self.config.path).glob("*/*") if file.is_file()]
        return len(files), len({file.parent for file in files})

    def identity(self) -> dict[str, Any]:
        """See `identify_folder`."""
        return {"content": identify_folder(self.config)}

    def open(self, seed: int) -> LoadedSource:
        """See `open_folder`."""
        return open_folder(self.config, seed)
