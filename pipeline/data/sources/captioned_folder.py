"""A folder of images with a table of captions, checked against each other."""

import hashlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from pipeline.config import CaptionedFolderData
from pipeline.data.sources.captioned_images import CaptionedImage, open_captioned
from pipeline.data.sources.captions import TABLES, clean_text, read_rows
from pipeline.data.sources.images import SUFFIXES, check_header
from pipeline.data.sources.loaded_source import LoadedSource
from pipeline.data.sources.quarantine import Quarantine
from pipeline.data.sources.source import DataSource
from pipeline.errors import DataError
from pipeline.ledger import hash_file

_COLUMNS = ("file_name", "text")


def open_captioned_folder(config: CaptionedFolderData, seed: int) -> LoadedSource:
    """Open a folder of captioned images.

    Unusable images and captions are quarantined.

    Raises:
        DataError: the folder or its table is missing; the table has no column `file_name` or
            `text`, or a file name that is missing, repeated or outside the folder; an image has no
            caption; or more samples are unusable than the recipe allows.
    """
    return open_captioned(config, *list_folder(config), seed)


def list_folder(config: CaptionedFolderData) -> tuple[list[CaptionedImage], Quarantine]:
    """List the captioned images of a folder, in the order of the table, and the quarantine.

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
            raise DataError(f"{place}: {str(file)!r} has two captions; keep one of them")
        named.add(file)
        path = root / file
        with quarantine.catching():
            text = clean_text(row["text"], place)
            if not path.is_file():
                raise DataError(f"{place}: {path} is missing; restore it or remove the row")
            header = check_header(path, str(path))
            digest = hash_file(path).sha256
            images.append(CaptionedImage(str(path), text, digest, header.has_alpha, path))
    for found in _images(root):
        if found not in named:
            raise DataError(f"{root / found} has no caption in {table}; add one or move the image")
    quarantine.check(len(named))
    return images, quarantine


def count_folder(config: CaptionedFolderData) -> int:
    """Count the rows of the table.

    Raises:
        DataError: the folder or its table is missing, or the table cannot be read.
    """
    return sum(1 for _ in read_rows(_table(config), _COLUMNS))


def identify_captioned_folder(config: CaptionedFolderData) -> dict[str, Any]:
    """Compute the identity of the samples from names, captions and sha256 of all images.

    Raises:
        DataError: as `open_captioned_folder`.
    """
    listing = hashlib.sha256()
    root = Path(config.path)
    images, quarantine = list_folder(config)
    for image in images:
        name = image.path.relative_to(root).as_posix()
        listing.update(repr((name, image.text, image.sha256)).encode())
    for error in quarantine.found:  # reasons are part of the data set, in its report
        listing.update(repr(("set aside", quarantine.place(error), error.reason)).encode())
    return {"sha256": listing.hexdigest()}


def _table(config: CaptionedFolderData) -> Path:
    root = Path(config.path)
    if not root.is_dir():
        raise DataError(f"data.path: {root} is not a folder; use a folder of images")
    table = root / _file(config.captions, "data.captions")
    if table.suffix not in TABLES:
        raise DataError(
            f"data.captions: {config.captions!r} has an unsupported format; convert it to one of "
            f"{', '.join(TABLES)}"
        )
    if not table.is_file():
        raise DataError(
            f"data.captions: {table} is missing; create it with the columns file_name and text"
        )
    return table


def _file(name: object, place: str) -> PurePosixPath:
    """Validate a file name relative to the folder; it must lie inside the folder."""
    if not isinstance(name, str) or not name:
        raise DataError(f"{place}: {name!r} is not a file name; write a file name")
    file = PurePosixPath(name)
    if file.is_absolute() or ".." in file.parts:
        raise DataError(f"{place}: {name!r} is outside the folder; use a path inside the folder")
    return file


def _images(root: Path) -> Iterator[PurePosixPath]:
    for path in sorted(root.rglob("*")):
        file = PurePosixPath(path.relative_to(root).as_posix())
        hidden = any(part.startswith(".") for part in file.parts)
        if path.suffix.lower() in SUFFIXES and path.is_file() and not hidden:
            yield file


class CaptionedFolder(DataSource[CaptionedFolderData]):
    """A folder of captioned images."""

    name: ClassVar[str] = "captioned_folder"

    def count(self) -> tuple[int, int]:
        """See `count_folder`."""
        return count_folder(self.config), 0

    def identity(self) -> dict[str, Any]:
        """See `identify_captioned_folder`."""
        return {"content": identify_captioned_folder(self.config)}

    def open(self, seed: int) -> LoadedSource:
        """See `open_captioned_folder`."""
        return open_captioned_folder(self.config, seed)
