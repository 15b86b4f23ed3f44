"""What the firings of a schedule did, one JSON object a line beside the run directories."""

import time
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from pipeline.documents import Document

Deed = Literal["started", "resumed", "done", "failed", "stopped", "skipped"]

_ENDS = {"done", "failed", "stopped"}


class Entry(Document):
    """One line of the diary.

    Attributes:
        time: seconds since the epoch.
        deed: what happened.
        run_dir: to which run; "" if to none.
        message: why.
    """

    time: float
    deed: Deed
    run_dir: str = ""
    message: str = ""


class Diary:
    """The diary of one schedule: `schedule-<name>.jsonl` in the root of its runs."""

    def __init__(self, root: Path, name: str) -> None:
        self.path = root / f"schedule-{name}.jsonl"

    def write(self, deed: Deed, run_dir: Path | None, message: str = "") -> None:
        """Add a line."""
        entry = Entry(
            time=time.time(), deed=deed, run_dir=str(run_dir or ""), message=message.strip()
        )
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(entry.model_dump_json(exclude_defaults=True) + "\n")

    def read(self) -> list[Entry]:
        """All complete lines."""
        if not self.path.is_file():
            return []
        lines = self.path.read_text(encoding="utf-8").split("\n")[:-1]
        return [entry for line in lines if (entry := _parse(line))]

    def last_end(self) -> float:
        """When the last run of a firing ended, seconds since the epoch; 0 if none did."""
        return max((e.time for e in self.read() if e.deed in _ENDS), default=0.0)


def _parse(line: str) -> Entry | None:
    try:
        return Entry.model_validate_json(line)
    except ValidationError:
        return None
