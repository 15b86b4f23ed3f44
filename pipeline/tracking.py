"""Metric trackers: the interface, the metrics file, and names of curves over sampling steps."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.durable import sync, write_durably


def curve_name(name: str, *, is_stochastic: bool) -> str:
    """Return the curve's name, distinct for the deterministic and stochastic ladder of a chain."""
    return f"{name}_stochastic" if is_stochastic else name


class Tracker(ABC):
    """Destination of training metrics."""

    @abstractmethod
    def log(self, values: dict[str, float], samples_seen: int) -> None:
        """Record metrics at `samples_seen`, the training clock."""

    @abstractmethod
    def flush(self) -> None:
        """Make logged metrics durable; called before a checkpoint that relies on them."""


class JsonlTracker(Tracker):
    """Append metrics to a file, one JSON object per line.

    Opening it at `samples_seen` drops later lines, because a resumed round writes them again.
    """

    def __init__(self, path: Path, samples_seen: int) -> None:
        kept = [line for line in read_metrics(path) if line["samples_seen"] <= samples_seen]
        write_durably(path, "".join(json.dumps(line) + "\n" for line in kept))
        self._path = path

    def log(self, values: dict[str, float], samples_seen: int) -> None:
        """Append one line."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"samples_seen": samples_seen, **values}) + "\n")

    def flush(self) -> None:
        """fsync the file."""
        sync(self._path)


def read_metrics(path: Path) -> Iterator[dict[str, float]]:
    """Iterate over the complete lines of a metrics file; incomplete or damaged lines are skipped.

    Those belong to updates after the last checkpoint, which are repeated and logged again.
    """
    if not path.is_file():
        return
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n") and (found := _parse(line)):
                yield found


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        found: Any = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and "samples_seen" in found else None
