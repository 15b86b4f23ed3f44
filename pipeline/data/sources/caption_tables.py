"""Tables of captions in csv, jsonl or parquet, read row by row."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from pipeline.data.sources.captions import parse_json
from pipeline.errors import DataError

TABLES = (".csv", ".jsonl", ".parquet")
"""Supported file suffixes of tables."""

_LONGEST_LINE = 16 * 1024**2
_ROWS_AT_ONCE = 64

Row = dict[str, object]


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
