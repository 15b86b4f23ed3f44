"""Metrics of a round: a durable JSON-lines file first, whoever wants to watch reads it.

The file is the truth. Training never waits for a tracking server: a forwarder in the driver reads
the file and hands it on (to MLflow, to the progress display), so a dead server costs no work.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path


class Tracker(ABC):
    """Where numbers go."""

    @abstractmethod
    def log(self, values: dict[str, float], samples_seen: int) -> None:
        """Record metrics at a point of the training clock."""


class JsonlTracker(Tracker):
    """Append metrics to a file, one JSON object a line.

    Opening it at `samples_seen` drops later lines, which a resumed round will write again.
    """

    def __init__(self, path: Path, samples_seen: int) -> None:
        kept = [line for line in read_metrics(path) if line["samples_seen"] <= samples_seen]
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        temporary.replace(path)
        self._path = path

    def log(self, values: dict[str, float], samples_seen: int) -> None:
        """Append one line."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"samples_seen": samples_seen, **values}) + "\n")


def read_metrics(path: Path) -> Iterator[dict[str, float]]:
    """The complete lines of a metrics file so far; a line still being written is left out."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.endswith("\n"):
                yield json.loads(line)
