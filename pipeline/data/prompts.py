"""Sentences without images, one sample each: a text file with one a line, or a table."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.config import PromptsData
from pipeline.data.caption_tables import TABLES, read_rows
from pipeline.data.captions import Caption, clean_text
from pipeline.data.source import LoadedSource, unlabelled_split
from pipeline.errors import DataError

_COLUMN = "text"
_LINES = ".txt"


def open_prompts(config: PromptsData, seed: int) -> LoadedSource:
    """Open a list of sentences as samples that have nothing else.

    Raises:
        DataError: the file is missing, cannot be read, or holds too few sentences; a sentence is
            empty (in a table), too long or not valid Unicode; names the first.
    """
    prompts = list_prompts(config)
    side = (config.size, config.size)
    return LoadedSource(
        name=config.source,
        class_names=(),
        latent_shape=(3, *side),
        encoding=None,
        labels=None,
        read=None,
        splits=unlabelled_split(len(prompts), config.holdout, seed, config.path),
        caption=lambda index: Caption(text=prompts[index], original_size=side, crop=(0, 0)),
    )


def list_prompts(config: PromptsData) -> list[str]:
    """All sentences, in the order of the file; blank lines of a text file say nothing.

    Raises:
        DataError: as `open_prompts`.
    """
    path = Path(config.path)
    if path.suffix not in (_LINES, *TABLES):
        raise DataError(
            f"data.path: {path.name!r} is none of {', '.join((_LINES, *TABLES))}; give a text file "
            "with a sentence a line, or a table with the column text"
        )
    if not path.is_file():
        raise DataError(f"data.path: {path} is missing; give a file of sentences")
    if path.suffix == _LINES:
        return [clean_text(line, place) for place, line in _lines(path)]
    return [clean_text(row[_COLUMN], place) for place, row in read_rows(path, (_COLUMN,))]


def identify_prompts(config: PromptsData) -> dict[str, Any]:
    """What determines the samples, their place aside: all sentences in order.

    Raises:
        DataError: as `open_prompts`.
    """
    listing = hashlib.sha256()
    for prompt in list_prompts(config):
        listing.update(repr(prompt).encode())
    return {"sha256": listing.hexdigest()}


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield f"{path}, line {number}", line
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}); write it in UTF-8") from None
