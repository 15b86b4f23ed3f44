"""A folder of images and a table of their captions, checked against each other."""

import hashlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.config import CaptionedFolderData
from pipeline.data.sources.caption_tables import TABLES, read_rows
from pipeline.data.sources.captioned_images import CaptionedImage, open_captioned
from pipeline.data.sources.captions import clean_text
from pipeline.data.sources.images import SUFFIXES, check_header
from pipeline.data.sources.loaded_source import LoadedSource
from pipeline.data.sources.quarantine import Quarantine
from pipeline.errors import DataError

_COLUMNS = ("file_name", "text")


def open_captioned_folder(config: CaptionedFolderData, seed: int) -> LoadedSource:
    """Open a folder of captioned images.

    Images and captions that cannot be used are set aside.

    Raises:
        DataError: the folder or its table is missing; the table has no column `file_name` or
            `text`, or a file that is missing, named twice or not in the folder; an image has no
            caption; or more is to be set aside than the recipe lets.
    """
    return open_captioned(config, *list_folder(config), seed)


def list_folder(config: CaptionedFolderData) -> tuple[list[CaptionedImage], Quarantine]:
    """The captioned images of a folder, in the order of the table; and those to set aside.

    Raises:
        DataError: as `open_captioned_folder`.
    """
    table = _table(config)
    root = Path(config.path)
    quarantine = Quarantine(config.max_bad, config.path)
    images: list[CaptionedImage] = []
    named: set[PurePosixPath] = set()
    for place, row in read_rows(table, _COLUMNS):
        file = _file(row["file_name"], place)
        if file in named:
            raise DataError(f"{place}: {str(file)!r} has a caption already; keep one of them")
        named.add(file)
        path = root / file
        with quarantine.catching():
            text = clean_text(row["text"], place)
            if not path.is_file():
                raise DataError(f"{place}: {path} is missing; restore it or remove the row")
            check_header(path, str(path))
            images.append(CaptionedImage(str(path), text, path))
    for found in _images(root):
        if found not in named:
            raise DataError(f"{root / found} has no caption in {table}; add one or move it away")
    quarantine.check(len(named))
    return images, quarantine


def count_folder(config: CaptionedFolderData) -> int:
    """How many rows the table has.

    Raises:
        DataError: the folder or its table is missing, or the table cannot be read.
    """
    return sum(1 for _ in read_rows(_table(config), _COLUMNS))


def identify_captioned_folder(config: CaptionedFolderData) -> dict[str, Any]:
    """What determines the samples, their place aside: names, captions and sha256 of all images.

    Raises:
        DataError: as `open_captioned_folder`.
    """
    listing = hashlib.sha256()
    root = Path(config.path)
    images, quarantine = list_folder(config)
    for image in images:
        with image.path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        name = image.path.relative_to(root).as_posix()
        listing.update(repr((name, image.text, digest)).encode())
    for error in quarantine.found:  # what it says is in the report
        listing.update(repr(("set aside", quarantine.place(error), error.reason)).encode())
    return {"sha256": listing.hexdigest()}


def _table(config: CaptionedFolderData) -> Path:
    root = Path(config.path)
    if not root.is_dir():
        raise DataError(f"data.path: {root} is not a folder; give one that holds images")
    table = root / _file(config.captions, "data.captions")
    if table.suffix not in TABLES:
        raise DataError(
            f"data.captions: {config.captions!r} is none of {', '.join(TABLES)}; convert it"
        )
    if not table.is_file():
        raise DataError(
            f"data.captions: {table} is missing; write it with the columns file_name and text"
        )
    return table


def _file(name: object, place: str) -> PurePosixPath:
    """A name below the folder, never outside of it."""
    if not isinstance(name, str) or not name:
        raise DataError(f"{place}: {name!r} is no file name; write one")
    file = PurePosixPath(name)
    if file.is_absolute() or ".." in file.parts:
        raise DataError(f"{place}: {name!r} leaves the folder; name files as they lie in it")
    return file


def _images(root: Path) -> Iterator[PurePosixPath]:
    for path in sorted(root.rglob("*")):
        file = PurePosixPath(path.relative_to(root).as_posix())
        hidden = any(part.startswith(".") for part in file.parts)
        if path.suffix.lower() in SUFFIXES and path.is_file() and not hidden:
            yield file
