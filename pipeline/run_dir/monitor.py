"""Where a run stands, read from its files; the terminal and `status` show the same."""

import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.config import Recipe
from pipeline.run_dir.events import Event, Events
from pipeline.training.plan import plan_rounds, plan_teacher

_TAIL = 4096  # bytes; a line of metrics has a few hundred


@dataclass(frozen=True)
class Training:
    """The newest numbers of the round in training.

    Attributes:
        update: updates done.
        total: updates of the round.
        loss: the training loss.
        rate: updates a second.
        slowest: the worker that took longest by itself.
        slowest_ratio: its time over the median of the others'; 1 where there is one worker.
    """

    update: int
    total: int
    loss: float
    rate: float
    slowest: int = 0
    slowest_ratio: float = 1.0

    @property
    def seconds_left(self) -> float | None:
        """To the end of the round, at the present rate; None while there is no rate."""
        return (self.total - self.update) / self.rate if self.rate > 0 else None


@dataclass
class Stage:
    """The stage that is running.

    Attributes:
        label: what a person calls it.
        since: when it began, seconds since the epoch.
        done: units finished.
        total: units in all; 0 if it does not count.
        training: numbers of the round, if it trains.
    """

    label: str
    since: float
    done: int = 0
    total: int = 0
    training: Training | None = None


@dataclass
class Follower:
    """Reads what is new in a run directory each time it is asked.

    Attributes:
        run_dir: the run directory; it may not exist yet.
        recipe: tells which rounds there are.
        stage: the stage that is running, or in which the run stopped; None between stages.
        has_begun: a first stage was reached.
    """

    run_dir: Path
    recipe: Recipe
    stage: Stage | None = None
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
        """The events since the last call; brings `stage` up to date."""
        events, self._offset = self._events.read(self._offset)
        for event in events:
            self._take(event)
            self.has_begun = True
        if self.stage:
            self.stage.training = newest_training(self.run_dir, self.stage.since)
        return events

    def updates_done(self) -> int:
        """Updates done in all rounds together."""
        return sum(_updates(self.run_dir / plan.folder) for plan in self._plans())

    def updates_total(self) -> int:
        """Updates of all rounds together."""
        return sum(plan.training.updates for plan in self._plans())

    def seconds_left(self) -> float | None:
        """To the end of the last round, at the pace since this object was made; None early on."""
        elapsed, done = time.time() - self._begun, self.updates_done()
        made = done - self._updates_at_begin
        if made <= 0 or elapsed < 5 or done >= self.updates_total():
            return None
        return (self.updates_total() - done) * elapsed / made

    def _plans(self) -> list[Any]:
        teacher = plan_teacher(self.recipe)
        return [*([teacher] if teacher else []), *plan_rounds(self.recipe)]

    def _take(self, event: Event) -> None:
        match event.kind:
            case "stage_started":
                self.stage = Stage(label=event.label, since=event.time, total=event.total)
            case "stage_progress" if self.stage and event.label == self.stage.label:
                self.stage.done, self.stage.total = event.done, event.total
            case "stage_done" | "run_done":
                self.stage = None  # after a failure it stays: that is where it happened
            case _:
                pass


def newest_training(run_dir: Path, since: float = 0.0) -> Training | None:
    """The last numbers of the round that trained last, if it did so after `since`."""
    files = [(_modified(path), path) for path in run_dir.glob("rounds/*/metrics.jsonl")]
    recent = [(modified, path) for modified, path in files if modified >= since]
    last = _last_line(max(recent)[1]) if recent else None
    if not last:
        return None
    return Training(
        update=int(last.get("update", 0)),
        total=int(last.get("total_updates", 0)),
        loss=float(last.get("train/loss", float("nan"))),
        rate=float(last.get("time/updates_per_s", 0.0)),
        slowest=int(last.get("time/slowest_worker", 0)),
        slowest_ratio=float(last.get("time/slowest_ratio", 1.0)),
    )


def _updates(folder: Path) -> int:
    last = _last_line(folder / "metrics.jsonl")
    return int(last.get("update", 0)) if last else 0


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _last_line(path: Path) -> dict[str, Any] | None:
    """The last complete line, read from the end: files of long rounds are long."""
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
