"""Names of curves that MLflow draws against sampling steps."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.durable import sync, write_durably


def curve_name(name: str, *, is_stochastic: bool) -> str:
    """Of two ladders in one chain each has a curve, also where both have as many steps."""
    return f"{name}_stochastic" if is_stochastic else name


class Tracker(ABC):
    """Where numbers go."""

    @abstractmethod
    def log(self, values: dict[str, float], samples_seen: int) -> None:
        """Record metrics at a point of the training clock."""

    @abstractmethod
    def settle(self) -> None:
        """Let what was logged survive a power cut; a checkpoint is about to rely on it."""


class JsonlTracker(Tracker):
    """Append metrics to a file, one JSON object a line.

    Opening it at `samples_seen` drops later lines, which a resumed round will write again.
    """

    def __init__(self, path: Path, samples_seen: int) -> None:
        kept = [line for line in read_metrics(path) if line["samples_seen"] <= samples_seen]
        write_durably(path, "".join(json.dumps(line) + "\n" for line in kept))
        self._path = path

    def log(self, values: dict[str, float], samples_seen: int) -> None:
        """Append one line."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"samples_seen": samples_seen, **values}) + "\n")

    def settle(self) -> None:
        """fsync the file."""
        sync(self._path)


def read_metrics(path: Path) -> Iterator[dict[str, float]]:
    """The complete lines of a metrics file so far.

    A line still being written is left out, and so is one that a power cut left damaged: it is of
    an update after the last checkpoint, which will be made and logged again.
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
