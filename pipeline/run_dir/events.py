"""What a run says about its progress: a file of events, one JSON object a line.

The flow writes it, whoever wants to watch reads it: the terminal of `stepfold run`, `stepfold
status` from another shell, a scheduled run nobody looks at. Nothing waits for a reader.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from pipeline.documents import Document
from pipeline.durable import write_durably

Kind = Literal[
    "run_started",
    "stage_started",
    "stage_progress",
    "stage_done",
    "judged",
    "asked",
    "run_done",
    "run_failed",
    "run_interrupted",
]


class Event(Document):
    """One thing that happened.

    Attributes:
        time: seconds since the epoch.
        kind: what happened.
        label: the stage it happened in; the run directory for a whole run.
        done: units of a stage finished so far.
        total: units of a stage in all; 0 if unknown.
        seconds: how long a finished stage took.
        cached: the stage was found done.
        message: what went wrong, what the gate found, or what a person is asked.
    """

    time: float
    kind: Kind
    label: str = ""
    done: int = 0
    total: int = 0
    seconds: float = 0.0
    cached: bool = False
    message: str = ""


class Events:
    """The events of one run directory, in its `events.jsonl`."""

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / "events.jsonl"

    def emit(self, kind: Kind, **fields: Any) -> None:
        """Append one event; `fields` are those of `Event`."""
        line = Event(time=time.time(), kind=kind, **fields).model_dump_json(exclude_defaults=True)
        # one write to a file opened for appending: lines of several processes never mix
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, (line + "\n").encode())
        finally:
            os.close(descriptor)

    def size(self) -> int:
        """Bytes written so far; the offset from which later events can be read."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def read(self, offset: int = 0) -> tuple[list[Event], int]:
        """The complete events from a byte offset on, and the offset to go on from.

        A line that a full disk or a kill left damaged is passed over.
        """
        if not self.path.is_file():
            return [], offset
        with self.path.open("rb") as file:
            file.seek(offset)
            content = file.read()
        complete = content[: content.rfind(b"\n") + 1]
        events = [event for line in complete.splitlines() if (event := _parse(line))]
        return events, offset + len(complete)


def _parse(line: bytes) -> Event | None:
    try:
        return Event.model_validate_json(line)
    except ValidationError:
        return None


class Timing:
    """The stage times of a run, in its `timing.json`, and beside the report once there is one.

    A resumed run keeps the times of what it did before; a stage found done adds nothing.
    """

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / "timing.json"
        self._report = run_dir / "report"

    @contextmanager
    def measure(self, label: str) -> Iterator[None]:
        """Add the wall time of a block to a stage."""
        start = time.monotonic()
        try:
            yield
        finally:
            self._add(label, time.monotonic() - start)

    def stages(self) -> dict[str, float]:
        """Seconds by stage, in the order they first ran."""
        if not self._path.is_file():
            return {}
        content = json.loads(self._path.read_text(encoding="utf-8"))
        return {entry["label"]: entry["seconds"] for entry in content["stages"]}

    def _add(self, label: str, seconds: float) -> None:
        stages = self.stages()
        stages[label] = stages.get(label, 0.0) + seconds
        content = {
            "stages": [
                {"label": name, "seconds": round(value, 2)} for name, value in stages.items()
            ],
            "total_seconds": round(sum(stages.values()), 2),
        }
        text = json.dumps(content, indent=1)
        write_durably(self._path, text)
        if self._report.is_dir():  # committing a report replaces its directory
            write_durably(self._report / "timing.json", text)
