"""Where the time went: seconds per stage, kept apart from results because they never repeat."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.durable import write_durably


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
