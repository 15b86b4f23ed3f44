"""Captions of images, and tables of captions in csv, jsonl or parquet, read row by row."""

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, TextIO

from pydantic import AliasChoices, Field, NonNegativeInt, PositiveInt

from pipeline.documents import Document
from pipeline.errors import DataError, SampleError

MAX_TEXT_BYTES = 2**20
"""Maximum size of a caption and of a JSON caption file; larger files are not captions."""

TABLES = (".csv", ".jsonl", ".parquet")
"""Supported file suffixes of tables."""

_LONGEST_LINE = 16 * 1024**2
_ROWS_AT_ONCE = 64

Row = dict[str, object]


class Caption(Document):
    """The caption of one image; in a shard the member `json`, with the text as "caption".

    Attributes:
        text: the text of the caption.
        original_size: (height, width) of the upright image before scaling, in pixels.
        crop: (top, left) of the crop in the scaled image, in pixels.

    Source: SDXL (Podell et al. 2023, arXiv 2307.01952), section 2.2: sizes and crops as conditions.
    """

    text: Annotated[
        str,
        Field(
            min_length=1,
            validation_alias=AliasChoices("text", "caption"),
            serialization_alias="caption",
        ),
    ]
    original_size: tuple[PositiveInt, PositiveInt]
    crop: tuple[NonNegativeInt, NonNegativeInt]

    def to_json(self) -> bytes:
        """Serialise the caption as a shard member, UTF-8 JSON."""
        return self.model_dump_json(by_alias=True).encode()


def clean_text(text: object, name: str) -> str:
    """Validate a caption and strip surrounding white space.

    Args:
        text: the value read as caption.
        name: name of the sample for error messages.

    Raises:
        SampleError: the value is not text, empty, too long, or not valid Unicode.
    """
    if not isinstance(text, str):
        raise SampleError(
            name, f": the caption is {type(text).__name__}, not text; write a caption"
        )
    try:
        length = len(text.encode())
    except UnicodeEncodeError:
        raise SampleError(name, ": the caption is not valid Unicode; rewrite it") from None
    if length > MAX_TEXT_BYTES:
        raise SampleError(name, f": the caption has {length} bytes; write at most {MAX_TEXT_BYTES}")
    if not text.strip():
        raise SampleError(name, ": the caption is empty; write one, or remove the image")
    return text.strip()


def parse_json(content: str | bytes, name: str) -> dict[str, object]:
    """Parse a JSON object.

    Raises:
        SampleError: the content is not a JSON object.
    """
    try:
        tree = json.loads(content)
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, or nested too deep
        raise SampleError(name, f" is not JSON ({error}); fix or remove it") from None
    if not isinstance(tree, dict):
        raise SampleError(name, f" holds a {type(tree).__name__}, not a JSON object; fix it")
    return tree


def read_rows(table: Path, columns: Sequence[str]) -> Iterator[tuple[str, Row]]:
    """Iterate over (name for error messages, row) of a table; each row has all `columns`.

    Raises:
        DataError: the table cannot be read, or a row lacks a column.
    """
    try:
        for number, row in _numbered(table, columns):
            place = f"{table}, row {number}"
            missing = [column for column in columns if column not in row]
            if missing:
                raise DataError(f"{place}: column {missing[0]} is missing; add it")
            yield place, row
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{table} cannot be read ({error}); fix the file") from None


def _numbered(table: Path, columns: Sequence[str]) -> Iterator[tuple[int, Row]]:
    match table.suffix:
        case ".csv":
            return _read_csv(table)
        case ".jsonl":
            return _read_jsonl(table)
        case _:
            return _read_parquet(table, columns)


def _read_csv(table: Path) -> Iterator[tuple[int, Row]]:
    with table.open(encoding="utf-8-sig", newline="") as file:  # spreadsheets write a BOM
        for number, row in enumerate(csv.DictReader(bounded_lines(file), strict=True), 1):
            if None in row or None in row.values():
                raise DataError(
                    f"{table}, row {number}: the number of fields differs from the header; quote "
                    "commas in captions"
                )
            yield number, dict(row)


def _read_jsonl(table: Path) -> Iterator[tuple[int, Row]]:
    with table.open(encoding="utf-8") as file:
        for number, line in enumerate(bounded_lines(file), 1):
            if line.strip():
                yield number, parse_json(line, f"{table}, row {number}")


def bounded_lines(file: TextIO) -> Iterator[str]:
    """Iterate over the lines of a file, with bounded line length to bound memory.

    Raises:
        ValueError: a line is too long.
    """
    while line := file.readline(_LONGEST_LINE):
        if len(line) == _LONGEST_LINE:
            raise ValueError(f"a line has {_LONGEST_LINE} characters or more")
        yield line


def _read_parquet(table: Path, columns: Sequence[str]) -> Iterator[tuple[int, Row]]:
    from pyarrow import parquet  # type: ignore[import-untyped]  # slow import, rarely needed

    with parquet.ParquetFile(table) as file:
        wanted = [column for column in columns if column in file.schema_arrow.names]
        number = 0
        # few at a time: a dictionary on disk may repeat one long text in every row
        for batch in file.iter_batches(columns=wanted, batch_size=_ROWS_AT_ONCE):
            for row in batch.to_pylist():
                number += 1
                yield number, row
