"""Progress of a run: two live lines on a terminal, time-stamped lines everywhere else."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from pipeline.config import Recipe
from pipeline.run_dir.events import Event
from pipeline.run_dir.monitor import Follower, Stage, Training
from pipeline.wording import duration, grouped

_LOOK_EVERY = 0.25  # seconds
_STRAGGLES_FROM = 1.5  # times as long as the others
_PLAIN_EVERY = 15.0  # seconds between lines about one stage when nobody watches live


@contextmanager
def shown(run_dir: Path, recipe: Recipe, console: Console) -> Iterator[Follower]:
    """Show the progress of the run in `run_dir` while the block runs; yields what it follows."""
    follower = Follower(run_dir, recipe)
    view = _LiveView(follower, console) if console.is_terminal else _PlainView(follower, console)
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(_LOOK_EVERY):
            view.look()

    thread = threading.Thread(target=watch, name="progress", daemon=True)
    view.open()
    thread.start()
    try:
        yield follower
    finally:
        stop.set()
        thread.join()
        view.look()
        view.close()


class _PlainView:
    """One line when a stage begins, ends, or has run for a while."""

    def __init__(self, follower: Follower, console: Console) -> None:
        self._follower = follower
        self._console = console
        self._said = 0.0

    def open(self) -> None:
        """Nothing to set up."""

    def close(self) -> None:
        """Nothing to take down."""

    def look(self) -> None:
        """Say what is new."""
        for event in self._follower.poll():
            line = _event_line(event)
            if line:
                self._say(line)
        stage = self._follower.stage
        if stage and time.monotonic() - self._said > _PLAIN_EVERY:
            self._say(f"{stage.label}: {numbers(stage)}")

    def _say(self, line: str) -> None:
        self._said = time.monotonic()
        stamp = time.strftime("%H:%M:%S")
        self._console.print(f"{stamp}  {line}", soft_wrap=True)


class _LiveView:
    """Finished stages stay as lines; below them the running stage and the whole chain move."""

    def __init__(self, follower: Follower, console: Console) -> None:
        self._follower = follower
        self._console = console
        self._begun = time.monotonic()
        self._spinner = Spinner("dots", style="cyan")
        self._live = Live(
            get_renderable=self._render, console=console, refresh_per_second=8, transient=True
        )

    def open(self) -> None:
        """Start drawing."""
        self._live.start()

    def close(self) -> None:
        """Stop drawing and clear the moving lines."""
        self._live.stop()

    def look(self) -> None:
        """Turn finished stages into lines."""
        for event in self._follower.poll():
            if event.kind == "stage_done":
                self._console.print(_done_line(event))
            elif event.kind in ("judged", "asked"):
                self._console.print(Text(f"  {_event_line(event)}", style="careful"))

    def _render(self) -> RenderableType:
        stage = self._follower.stage
        rows: list[RenderableType] = []
        if stage:
            self._spinner.update(text=Text(stage.label))
            rows += [self._spinner, _bar(*_share(stage), numbers(stage))]
        elif not self._follower.has_begun:
            self._spinner.update(text=Text("starting Prefect, MLflow and Ray"))
            rows += [self._spinner]
        done, total = self._follower.updates_done(), self._follower.updates_total()
        elapsed = f"{grouped(done)} of {grouped(total)} updates, {self._elapsed()}"
        rows.append(Text("  whole chain", style="quiet"))
        rows.append(_bar(done, total, elapsed))
        return Group(*rows)

    def _elapsed(self) -> str:
        left = self._follower.seconds_left()
        elapsed = duration(time.monotonic() - self._begun)
        return f"{elapsed} so far" + (f", about {duration(left)} left" if left is not None else "")


def numbers(stage: Stage) -> str:
    """How far a stage is, in words."""
    training = stage.training
    if training:
        left = training.seconds_left
        return (
            f"{grouped(training.update)} of {grouped(training.total)} updates, "
            f"loss {training.loss:.4g}, {training.rate:.3g}/s"
            + (f", {duration(left)} left" if left is not None else "")
            + _straggler(training)
        )
    elapsed = time.time() - stage.since
    if not stage.total:
        return f"{duration(elapsed)} so far"
    left = elapsed * (stage.total - stage.done) / stage.done if stage.done else None
    return f"{grouped(stage.done)} of {grouped(stage.total)}" + (
        f", {duration(left)} left" if left is not None else ""
    )


def _straggler(training: Training) -> str:
    if training.slowest_ratio < _STRAGGLES_FROM:
        return ""
    times = f"{training.slowest_ratio:.1f} times as long as the others"
    return f"; worker {training.slowest} takes {times}"


def _share(stage: Stage) -> tuple[int, int]:
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
        return Text(f"· {event.label}  already done", style="quiet")
    text = Text("✓ ", style="good").append(event.label, style="default")
    return text.append(f"  {duration(event.seconds)}", style="quiet")


def _event_line(event: Event) -> str:
    match event.kind:
        case "stage_started":
            return f"{event.label}: started"
        case "stage_done" if event.cached:
            return f"{event.label}: already done"
        case "stage_done":
            return f"{event.label}: done in {duration(event.seconds)}"
        case "judged" | "asked":
            return f"{event.label}: {event.message}"
        case _:
            return ""
