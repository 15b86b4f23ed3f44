"""Events and stage times of a run, in files of its directory.

Flows append events, one JSON object per line. The progress display of `stepfold run`, `stepfold
status` and schedules read them; no writer waits for a reader.
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
from pipeline.run_dir.layout import TIMING, RunDir

Kind = Literal[
    "run_started",
    "stage_started",
    "stage_progress",
    "stage_done",
    "data_note",
    "gate_result",
    "approval_requested",
    "run_done",
    "run_failed",
    "run_interrupted",
]


class Event(Document):
    """One event of a run.

    Attributes:
        time: seconds since the epoch.
        kind: type of the event.
        stage: identity of the stage; empty for the whole run.
        title: displayed title of the stage or round.
        done: finished units of the stage.
        total: total units of the stage; 0 if unknown.
        seconds: duration of a finished stage.
        cached: the stage was already done.
        message: error message, note on the data, gate result, or text of the approval request.
    """

    time: float
    kind: Kind
    stage: str = ""
    title: str = ""
    done: int = 0
    total: int = 0
    seconds: float = 0.0
    cached: bool = False
    message: str = ""


class Events:
    """The event file of a run directory."""

    def __init__(self, run_dir: Path) -> None:
        self.path = RunDir(run_dir).events

    def emit(self, kind: Kind, **fields: Any) -> None:
        """Append one event; `fields` are those of `Event`."""
        line = Event(time=time.time(), kind=kind, **fields).model_dump_json(exclude_defaults=True)
        # a single write in append mode, so that lines of several processes never interleave
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, (line + "\n").encode())
        finally:
            os.close(descriptor)

    def size(self) -> int:
        """Return the size in bytes, which is the offset of later events."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def read(self, offset: int = 0) -> tuple[list[Event], int]:
        """Read the complete events from a byte offset on; also returns the next offset.

        Lines damaged by a full disk or a kill are skipped.
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
    """The stage times of a run, stored in its directory and copied beside the report.

    Times accumulate over resumed runs; a stage that is already done adds nothing.
    """

    def __init__(self, run_dir: Path) -> None:
        layout = RunDir(run_dir)
        self._path = layout.timing
        self._report = layout.report

    @contextmanager
    def measure(self, stage: str, title: str) -> Iterator[None]:
        """Add the wall time of the block to the stage of this identity."""
        start = time.monotonic()
        try:
            yield
        finally:
            self._add(stage, title, time.monotonic() - start)

    def seconds(self) -> dict[str, float]:
        """Return seconds per stage identity, in order of first execution."""
        return {entry["stage"]: float(entry["seconds"]) for entry in self._entries()}

    def by_title(self) -> dict[str, float]:
        """Return seconds per stage title, in order of first execution."""
        return {entry["title"]: float(entry["seconds"]) for entry in self._entries()}

    def _entries(self) -> list[dict[str, Any]]:
        if not self._path.is_file():
            return []
        content = json.loads(self._path.read_text(encoding="utf-8"))
        entries: list[dict[str, Any]] = content["stages"]
        return entries

    def _add(self, stage: str, title: str, seconds: float) -> None:
        entries = self._entries()
        entry = next((each for each in entries if each["stage"] == stage), None)
        if entry is None:
            entry = {"stage": stage, "title": title, "seconds": 0.0}
            entries.append(entry)
        entry["seconds"] = round(entry["seconds"] + seconds, 2)
        total = round(sum(each["seconds"] for each in entries), 2)
        content = {"stages": entries, "total_seconds": total}
        text = json.dumps(content, indent=1)
        write_durably(self._path, text)
        if self._report.is_dir():  # committing a report replaces its directory
            write_durably(self._report / TIMING, text)
