"""Prompts without images, one sample each: a text file with one per line, or a table."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from pipeline.config import PromptsData
from pipeline.data.sources.captions import TABLES, Caption, bounded_lines, clean_text, read_rows
from pipeline.data.sources.findings import Findings, find_copies
from pipeline.data.sources.loaded_source import LoadedSource, unlabelled_split
from pipeline.data.sources.quarantine import Quarantine
from pipeline.data.sources.source import DataSource
from pipeline.errors import DataError

_COLUMN = "text"
_LINES = ".txt"
_SHOWN = 60  # characters of a prompt in a finding


def open_prompts(config: PromptsData, seed: int) -> LoadedSource:
    """Open a list of prompts as a source of captions without images.

    Unusable prompts (empty in a table, too long, not valid Unicode) are quarantined.

    Raises:
        DataError: the file is missing, cannot be read, or holds too few prompts; or more are
            unusable than the recipe allows.
    """
    prompts, quarantine = list_prompts(config)
    findings = Findings(
        kind="prompt",
        total=len(prompts),
        name=lambda index: repr(_shortened(prompts[index])),
        copies=find_copies(prompts, None)[0],
    )
    side = (config.size, config.size)
    return LoadedSource(
        name=config.source,
        class_names=(),
        latent_shape=(3, *side),
        encoding=None,
        labels=None,
        read=None,
        splits=unlabelled_split(len(prompts), config.holdout, seed, config.path, prompts),
        caption=lambda index: Caption(text=prompts[index], original_size=side, crop=(0, 0)),
        texts=prompts,
        quarantine=quarantine,
        findings=findings,
    )


def list_prompts(config: PromptsData) -> tuple[list[str], Quarantine]:
    """List all prompts, in the order of the file, and the quarantine.

    Blank lines of a text file are skipped.

    Raises:
        DataError: as `open_prompts`.
    """
    path = Path(config.path)
    if path.suffix not in (_LINES, *TABLES):
        raise DataError(
            f"data.path: {path.name!r} has an unsupported format, expected one of "
            f"{', '.join((_LINES, *TABLES))}; use a text file with one prompt per line, or a table "
            "with the column text"
        )
    if not path.is_file():
        raise DataError(f"data.path: {path} is missing; use an existing file of prompts")
    quarantine = Quarantine(config.max_bad, str(path.parent))
    prompts = []
    for place, text in _texts(path):
        with quarantine.catching():
            prompts.append(clean_text(text, place))
    quarantine.check(len(prompts) + len(quarantine))
    return prompts, quarantine


def identify_prompts(config: PromptsData) -> dict[str, Any]:
    """Compute the identity of the samples from all prompts in order.

    Raises:
        DataError: as `open_prompts`.
    """
    listing = hashlib.sha256()
    prompts, quarantine = list_prompts(config)
    for prompt in prompts:
        listing.update(repr(prompt).encode())
    for error in quarantine.found:  # reasons are part of the data set, in its report
        listing.update(repr(("set aside", quarantine.place(error), error.reason)).encode())
    identity: dict[str, Any] = {"sha256": listing.hexdigest()}
    if copies := find_copies(prompts, None)[0]:
        identity["copies"] = len(copies)  # which are on one side of the held-out split
    return identity


def _shortened(prompt: str) -> str:
    return prompt if len(prompt) <= _SHOWN else f"{prompt[:_SHOWN]}..."


def _texts(path: Path) -> Iterator[tuple[str, object]]:
    """Iterate over (name for error messages, value read as prompt)."""
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
        raise DataError(f"{path} cannot be read ({error}); save it as UTF-8") from None


class Prompts(DataSource[PromptsData]):
    """Prompts without images."""

    name: ClassVar[str] = "prompts"

    def count(self) -> tuple[int, int]:
        """Count the usable prompts."""
        return len(list_prompts(self.config)[0]), 0

    def identity(self) -> dict[str, Any]:
        """See `identify_prompts`."""
        return {"content": identify_prompts(self.config)}

    def open(self, seed: int) -> LoadedSource:
        """See `open_prompts`."""
        return open_prompts(self.config, seed)
