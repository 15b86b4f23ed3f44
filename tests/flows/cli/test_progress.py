"""Progress of a run: lines with the time, or moving bars on a terminal."""

import io
import time
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from flows.cli.console import open_console
from flows.cli.progress import numbers, show_progress
from pipeline.config import Recipe
from pipeline.documents import build, read_yaml
from pipeline.run_dir.events import Events
from pipeline.run_dir.monitor import StageProgress, TrainingProgress
from tests.support.terminal import GAUSSIAN


def page(*, terminal: bool = False) -> Console:
    return open_console(file=io.StringIO(), width=80, force_terminal=terminal, color_system=None)


def text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def recipe() -> Recipe:
    return build(Recipe, read_yaml(GAUSSIAN), "gaussian.yaml")


def run_through(run_dir: Path, console: Console) -> str:
    events = Events(run_dir)
    with show_progress(run_dir, recipe(), console):
        events.emit("stage_done", stage="data", title="shard the data", cached=True)
        events.emit("stage_started", stage="teacher", title="teacher")
        time.sleep(0.6)
        events.emit("stage_done", stage="teacher", title="teacher", seconds=61.0)
    return text(console)


def test_without_a_terminal_progress_is_plain_lines_with_the_time(tmp_path: Path) -> None:
    lines = run_through(tmp_path, page()).splitlines()
    assert [line[10:] for line in lines] == [
        "shard the data: already done",
        "teacher: started",
        "teacher: done in 1:01",
    ]
    assert all(time.strptime(line[:8], "%H:%M:%S") for line in lines)


def test_on_a_terminal_finished_stages_stay_above_the_moving_lines(tmp_path: Path) -> None:
    shown_text = run_through(tmp_path, page(terminal=True))
    assert "· shard the data  already done" in shown_text
    assert "✓ teacher  1:01" in shown_text
    assert "whole run" in shown_text
    assert "0 of 1 800 updates" in shown_text


def test_a_stage_that_trains_shows_loss_rate_and_time_left() -> None:
    training = TrainingProgress(update=1200, total=2400, loss=0.01234, rate=20.0)
    stage = StageProgress("train", "train", since=0.0, training=training)
    assert numbers(stage) == "1 200 of 2 400 updates, loss 0.01234, 20/s, 1:00 left"


def test_a_worker_that_the_others_wait_for_is_named() -> None:
    training = TrainingProgress(1200, 2400, loss=0.01234, rate=20.0, slowest=3, slowest_ratio=2.41)
    output = numbers(StageProgress("train", "train", since=0.0, training=training))
    assert output.endswith("1:00 left; worker 3 takes 2.4 times as long as the others")
    usual = replace(training, slowest_ratio=1.2)
    assert "worker" not in numbers(StageProgress("train", "train", since=0.0, training=usual))
