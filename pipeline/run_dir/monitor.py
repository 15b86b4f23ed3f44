"""Progress of a run, read from its files by the progress display and `stepfold status`."""

import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.config import Recipe
from pipeline.run_dir.events import Event, Events
from pipeline.run_dir.layout import RunDir
from pipeline.training.plan import plan_rounds, plan_teacher
from pipeline.training.round_plan import RoundPlan

_TAIL = 4096  # bytes; one line of metrics has a few hundred


@dataclass(frozen=True)
class TrainingProgress:
    """The latest metrics of the round in training.

    Attributes:
        update: finished updates.
        total: updates of the round.
        loss: training loss.
        rate: updates per second.
        slowest: rank of the slowest worker.
        slowest_ratio: its time divided by the median of the others; 1 for a single worker.
    """

    update: int
    total: int
    loss: float
    rate: float
    slowest: int = 0
    slowest_ratio: float = 1.0

    @property
    def seconds_left(self) -> float | None:
        """Seconds to the end of the round at the current rate; None without a rate."""
        return (self.total - self.update) / self.rate if self.rate > 0 else None


@dataclass
class StageProgress:
    """Progress of the running stage.

    Attributes:
        id: identity of the stage.
        title: displayed title.
        since: start time, in seconds since the epoch.
        done: finished units.
        total: total units; 0 if unknown.
        training: training metrics, if the stage trains.
    """

    id: str
    title: str
    since: float
    done: int = 0
    total: int = 0
    training: TrainingProgress | None = None


@dataclass
class RunMonitor:
    """Follow a run directory by polling its event and metrics files.

    Attributes:
        run_dir: run directory; it may not exist yet.
        recipe: recipe of the run, from which its rounds are planned.
        stage: the stage that is running or in which the run stopped; None between stages.
        has_begun: whether an event was read.
    """

    run_dir: Path
    recipe: Recipe
    stage: StageProgress | None = None
    has_begun: bool = False
    _events: Events = field(init=False)
    _offset: int = field(init=False)
    _begun: float = field(init=False)
    _updates_at_begin: int = field(init=False)

    def __post_init__(self) -> None:
        self._events = Events(self.run_dir)
        self._offset = self._events.size()
        self._begun = time.time()
        self._updates_at_begin = self.updates_done()

    def poll(self) -> list[Event]:
        """Return the events since the last call and update `stage`."""
        events, self._offset = self._events.read(self._offset)
        for event in events:
            self._apply(event)
            self.has_begun = True
        if self.stage:
            self.stage.training = latest_training(self.run_dir, self.stage.since)
        return events

    def updates_done(self) -> int:
        """Return the finished updates of all rounds."""
        layout = RunDir(self.run_dir)
        return sum(_updates(layout.metrics(plan)) for plan in self._plans())

    def updates_total(self) -> int:
        """Return the planned updates of all rounds."""
        return sum(plan.training.updates for plan in self._plans())

    def seconds_left(self) -> float | None:
        """Estimate the seconds to the end of the last round; None without enough progress.

        The rate is the average since this monitor was created.
        """
        elapsed, done = time.time() - self._begun, self.updates_done()
        new = done - self._updates_at_begin
        if new <= 0 or elapsed < 5 or done >= self.updates_total():
            return None
        return (self.updates_total() - done) * elapsed / new

    def _plans(self) -> list[RoundPlan]:
        teacher = plan_teacher(self.recipe)
        return [*([teacher] if teacher else []), *plan_rounds(self.recipe)]

    def _apply(self, event: Event) -> None:
        match event.kind:
            case "stage_started":
                self.stage = StageProgress(
                    event.stage, event.title, since=event.time, total=event.total
                )
            case "stage_progress" if self.stage and event.stage == self.stage.id:
                self.stage.done, self.stage.total = event.done, event.total
            case "stage_done" | "run_done":
                self.stage = None  # kept after a failure, to show the stage that failed
            case _:
                pass


def latest_training(run_dir: Path, since: float = 0.0) -> TrainingProgress | None:
    """Return the latest metrics of the last trained round, if written after `since`."""
    files = [(_modified(path), path) for path in RunDir(run_dir).all_metrics()]
    recent = [(modified, path) for modified, path in files if modified >= since]
    last = _last_line(max(recent)[1]) if recent else None
    if not last:
        return None
    return TrainingProgress(
        update=int(last.get("update", 0)),
        total=int(last.get("total_updates", 0)),
        loss=float(last.get("train/loss", float("nan"))),
        rate=float(last.get("time/updates_per_s", 0.0)),
        slowest=int(last.get("time/slowest_worker", 0)),
        slowest_ratio=float(last.get("time/slowest_ratio", 1.0)),
    )


def _updates(metrics: Path) -> int:
    last = _last_line(metrics)
    return int(last.get("update", 0)) if last else 0


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _last_line(path: Path) -> dict[str, Any] | None:
    """Parse the last complete line, reading only the end of the file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL))
            tail = file.read()
    except FileNotFoundError:
        return None
    lines = tail[: tail.rfind(b"\n") + 1].splitlines()
    found: dict[str, Any] | None = json.loads(lines[-1]) if lines else None
    return found
