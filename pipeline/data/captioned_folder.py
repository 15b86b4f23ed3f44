"""A folder of images and a table of their captions, checked against each other."""

import csv
import hashlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, TextIO

from pipeline.config import CaptionedFolderData
from pipeline.data.captioned_images import CaptionedImage, open_captioned
from pipeline.data.captions import clean_text, parse_json
from pipeline.data.images import SUFFIXES, check_header
from pipeline.data.quarantine import Quarantine
from pipeline.data.source import LoadedSource
from pipeline.errors import DataError

_COLUMNS = ("file_name", "text")
_LONGEST_LINE = 16 * 1024**2
_ROWS_AT_ONCE = 64


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
    for place, row in _rows(table):
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
    return sum(1 for _ in _rows(_table(config)))


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
    if table.suffix not in _READERS:
        raise DataError(
            f"data.captions: {config.captions!r} is none of {', '.join(_READERS)}; convert it"
        )
    if not table.is_file():
        raise DataError(
            f"data.captions: {table} is missing; write it with the columns file_name and text"
        )
    return table


def _rows(table: Path) -> Iterator[tuple[str, dict[str, object]]]:
    """The rows of a table, each with what errors call it; both columns are there."""
    try:
        for number, row in _READERS[table.suffix](table):
            place = f"{table}, row {number}"
            missing = [column for column in _COLUMNS if column not in row]
            if missing:
                raise DataError(f"{place}: column {missing[0]} is missing; add it")
            yield place, row
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{table} cannot be read ({error}); mend it") from None


def _read_csv(table: Path) -> Iterator[tuple[int, dict[str, object]]]:
    with table.open(encoding="utf-8-sig", newline="") as file:  # spreadsheets write a mark first
        for number, row in enumerate(csv.DictReader(_lines(file), strict=True), 1):
            if None in row or None in row.values():
                raise DataError(
                    f"{table}, row {number} has not as many fields as the header; quote its commas"
                )
            yield number, dict(row)


def _read_jsonl(table: Path) -> Iterator[tuple[int, dict[str, object]]]:
    with table.open(encoding="utf-8") as file:
        for number, line in enumerate(_lines(file), 1):
            if line.strip():
                yield number, parse_json(line, f"{table}, row {number}")


def _lines(file: TextIO) -> Iterator[str]:
    """The lines of a table, none of which may fill the memory."""
    while line := file.readline(_LONGEST_LINE):
        if len(line) == _LONGEST_LINE:
            raise ValueError(f"a line has {_LONGEST_LINE} characters or more")
        yield line


def _read_parquet(table: Path) -> Iterator[tuple[int, dict[str, object]]]:
    from pyarrow import parquet  # type: ignore[import-untyped]  # slow, and few need it

    with parquet.ParquetFile(table) as file:
        wanted = [column for column in _COLUMNS if column in file.schema_arrow.names]
        number = 0
        # few at a time: a dictionary on disk may repeat one long text in every row
        for batch in file.iter_batches(columns=wanted, batch_size=_ROWS_AT_ONCE):
            for row in batch.to_pylist():
                number += 1
                yield number, row


_READERS = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}


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
