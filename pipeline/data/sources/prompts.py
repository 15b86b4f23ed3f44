"""Sentences without images, one sample each: a text file with one a line, or a table."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.config import PromptsData
from pipeline.data.sources.caption_tables import TABLES, bounded_lines, read_rows
from pipeline.data.sources.captions import Caption, clean_text
from pipeline.data.sources.loaded_source import LoadedSource, unlabelled_split
from pipeline.data.sources.quarantine import Quarantine
from pipeline.errors import DataError

_COLUMN = "text"
_LINES = ".txt"


def open_prompts(config: PromptsData, seed: int) -> LoadedSource:
    """Open a list of sentences as samples that have nothing else.

    Sentences that cannot be used (empty in a table, too long, not valid Unicode) are set aside.

    Raises:
        DataError: the file is missing, cannot be read, or holds too few sentences; or more are to
            be set aside than the recipe lets.
    """
    prompts, quarantine = list_prompts(config)
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
        quarantine=quarantine,
    )


def list_prompts(config: PromptsData) -> tuple[list[str], Quarantine]:
    """All sentences, in the order of the file, and what is set aside.

    Blank lines of a text file say nothing.

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
    quarantine = Quarantine(config.max_bad, str(path.parent))
    prompts = []
    for place, text in _texts(path):
        with quarantine.catching():
            prompts.append(clean_text(text, place))
    quarantine.check(len(prompts) + len(quarantine))
    return prompts, quarantine


def identify_prompts(config: PromptsData) -> dict[str, Any]:
    """What determines the samples, their place aside: all sentences in order.

    Raises:
        DataError: as `open_prompts`.
    """
    listing = hashlib.sha256()
    prompts, quarantine = list_prompts(config)
    for prompt in prompts:
        listing.update(repr(prompt).encode())
    for error in quarantine.found:  # what it says is in the report
        listing.update(repr(("set aside", quarantine.place(error), error.reason)).encode())
    return {"sha256": listing.hexdigest()}


def _texts(path: Path) -> Iterator[tuple[str, object]]:
    """What should be sentences, each with what errors call it."""
    if path.suffix != _LINES:
        for place, row in read_rows(path, (_COLUMN,)):
            yield place, row[_COLUMN]
        return
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(bounded_lines(file), 1):
                if line.strip():
                    yield f"{path}, line {number}", line
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); write it in UTF-8") from None
