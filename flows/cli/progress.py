"""Progress of a run: two live lines on a terminal, time-stamped lines everywhere else."""

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from pipeline.config import Recipe
from pipeline.run_dir.events import Event
from pipeline.run_dir.monitor import RunMonitor, StageProgress, TrainingProgress
from pipeline.wording import format_duration, format_integer

_REFRESH_EVERY = 0.25  # seconds
_STRAGGLER_RATIO = 1.5  # of the time of the other workers
_PLAIN_EVERY = 15.0  # seconds between lines about one stage without a terminal


@contextmanager
def show_progress(run_dir: Path, recipe: Recipe, console: Console) -> Iterator[RunMonitor]:
    """Show the progress of the run in `run_dir` while the block runs; yields its source."""
    follower = RunMonitor(run_dir, recipe)
    view = _LiveView(follower, console) if console.is_terminal else _PlainView(follower, console)
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(_REFRESH_EVERY):
            view.refresh()

    thread = threading.Thread(target=watch, name="progress", daemon=True)
    with view.screen:
        thread.start()
        try:
            yield follower
        finally:
            stop.set()
            thread.join()
            view.refresh()


class _PlainView:
    """One line when a stage begins or ends, and at intervals in between."""

    screen: AbstractContextManager[object] = nullcontext()

    def __init__(self, follower: RunMonitor, console: Console) -> None:
        self._follower = follower
        self._console = console
        self._printed = 0.0

    def refresh(self) -> None:
        """Print what is new."""
        for event in self._follower.poll():
            line = _event_line(event)
            if line:
                self._print(line)
        stage = self._follower.stage
        if stage and time.monotonic() - self._printed > _PLAIN_EVERY:
            self._print(f"{stage.title}: {numbers(stage)}")

    def _print(self, line: str) -> None:
        self._printed = time.monotonic()
        stamp = time.strftime("%H:%M:%S")
        self._console.print(f"{stamp}  {line}", soft_wrap=True)


class _LiveView:
    """Lines of finished stages, above moving bars of the current stage and the whole run."""

    def __init__(self, follower: RunMonitor, console: Console) -> None:
        self._follower = follower
        self._console = console
        self._begun = time.monotonic()
        self._spinner = Spinner("dots", style="cyan")
        self.screen: AbstractContextManager[object] = Live(
            get_renderable=self._render, console=console, refresh_per_second=8, transient=True
        )

    def refresh(self) -> None:
        """Print a line for every finished stage, note on the data and gate result."""
        for event in self._follower.poll():
            if event.kind == "stage_done":
                self._console.print(_done_line(event))
            elif event.kind in ("data_note", "gate_result", "approval_requested"):
                self._console.print(Text(f"  {_event_line(event)}", style="careful"))

    def _render(self) -> RenderableType:
        stage = self._follower.stage
        rows: list[RenderableType] = []
        if stage:
            self._spinner.update(text=Text(stage.title))
            rows += [self._spinner, _bar(*_share(stage), numbers(stage))]
        elif not self._follower.has_begun:
            self._spinner.update(text=Text("starting Prefect, MLflow and Ray"))
            rows += [self._spinner]
        done, total = self._follower.updates_done(), self._follower.updates_total()
        elapsed = f"{format_integer(done)} of {format_integer(total)} updates, {self._elapsed()}"
        rows.append(Text("  whole run", style="quiet"))
        rows.append(_bar(done, total, elapsed))
        return Group(*rows)

    def _elapsed(self) -> str:
        left = self._follower.seconds_left()
        elapsed = format_duration(time.monotonic() - self._begun)
        return f"{elapsed} so far" + (
            f", about {format_duration(left)} left" if left is not None else ""
        )


def numbers(stage: StageProgress) -> str:
    """Return the progress of a stage as text."""
    training = stage.training
    if training:
        left = training.seconds_left
        return (
            f"{format_integer(training.update)} of {format_integer(training.total)} updates, "
            f"loss {training.loss:.4g}, {training.rate:.3g}/s"
            + (f", {format_duration(left)} left" if left is not None else "")
            + _straggler(training)
        )
    elapsed = time.time() - stage.since
    if not stage.total:
        return f"{format_duration(elapsed)} so far"
    left = elapsed * (stage.total - stage.done) / stage.done if stage.done else None
    return f"{format_integer(stage.done)} of {format_integer(stage.total)}" + (
        f", {format_duration(left)} left" if left is not None else ""
    )


def _straggler(training: TrainingProgress) -> str:
    if training.slowest_ratio < _STRAGGLER_RATIO:
        return ""
    times = f"{training.slowest_ratio:.1f} times as long as the others"
    return f"; worker {training.slowest} takes {times}"


def _share(stage: StageProgress) -> tuple[int, int]:
    if stage.training:
        return stage.training.update, stage.training.total
    return stage.done, stage.total


def _bar(done: int, total: int, text: str) -> Table:
    row = Table.grid(padding=(0, 1))
    row.add_column(width=1)
    row.add_column(width=28)
    row.add_column()
    bar = ProgressBar(total=total or None, completed=done, width=28, pulse=not total)
    row.add_row("", bar, Text(text, style="quiet"))
    return row


def _done_line(event: Event) -> Text:
    if event.cached:
        return Text(f"· {event.title}  already done", style="quiet")
    text = Text("✓ ", style="good").append(event.title, style="default")
    return text.append(f"  {format_duration(event.seconds)}", style="quiet")


def _event_line(event: Event) -> str:
    match event.kind:
        case "stage_started":
            return f"{event.title}: started"
        case "stage_done" if event.cached:
            return f"{event.title}: already done"
        case "stage_done":
            return f"{event.title}: done in {format_duration(event.seconds)}"
        case "data_note" | "gate_result" | "approval_requested":
            return f"{event.title}: {event.message}"
        case _:
            return ""
