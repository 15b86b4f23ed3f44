"""A folder with one JSON file per run, as a tracker of its own."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from pipeline.durable import write_durably
from pipeline.errors import InfraError
from pipeline.tracking import Point, RunStatus, RunTracker, TrackerKind


class JsonTracking(TrackerKind):
    """JSON files in the folder `tracking.uri`."""

    name: ClassVar[str] = "json_files"
    title: ClassVar[str] = "JSON files"

    def open(self) -> RunTracker:
        """Use the folder."""
        return JsonTracker(Path(self.config.address or self.run_root / "json-files"))


class JsonTracker(RunTracker):
    """Parameters, points and status of each run; what it does not override has no effect."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def start(
        self,
        key: str,
        name: str,
        params: Mapping[str, Any],
        tags: Mapping[str, Any],
        *,
        parent: str | None = None,
        training: str | None = None,
        is_running: bool = True,
    ) -> str:
        """Open a run; its id is a digest of its key and training."""
        run = hashlib.sha256(f"{key} {training}".encode()).hexdigest()[:16]
        found = self._read(run)
        status = "RUNNING" if is_running else found.get("status", "FINISHED")
        self._write(run, {"points": {}, **found, "name": name, "parent": parent, "status": status})
        return run

    def log(self, run: str, points: Iterable[Point], *, are_new: bool = False) -> None:
        """Add points; one that is there already is replaced."""
        found = self._read(run)
        for name, value, step in points:
            found["points"].setdefault(name, {})[str(step)] = value
        self._write(run, found)

    def last_step(self, run: str, name: str) -> int:
        """Return the last step of a metric."""
        return max(map(int, self._read(run)["points"].get(name, {})), default=-1)

    def finish(self, run: str, status: RunStatus, *, unless_ended: bool = False) -> None:
        """Set the status."""
        self._write(run, {**self._read(run), "status": status})

    def end_stale_runs(self, key: str) -> int:
        """Leave them; the next start of a run sets its status."""
        return 0

    def _read(self, run: str) -> dict[str, Any]:
        path = self._folder / f"{run}.json"
        found: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
        return found

    def _write(self, run: str, found: Mapping[str, Any]) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_durably(self._folder / f"{run}.json", json.dumps(found))
        except OSError as error:
            raise InfraError(f"{self._folder} cannot be written ({error})") from error
