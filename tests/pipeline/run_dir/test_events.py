"""The events of a run, and its progress as read from events and metrics files."""

import json
import threading
from pathlib import Path

import pytest

from pipeline.config import Recipe
from pipeline.documents import build, read_yaml
from pipeline.run_dir.events import Events
from pipeline.run_dir.monitor import RunMonitor, latest_training
from tests.support.terminal import GAUSSIAN


@pytest.fixture
def recipe() -> Recipe:
    return build(Recipe, read_yaml(GAUSSIAN), "gaussian.yaml")


def log_metrics(folder: Path, *updates: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "metrics.jsonl").open("a") as file:
        for update in updates:
            line = {
                "samples_seen": update * 10,
                "update": update,
                "total_updates": 300,
                "train/loss": 1 / update,
                "time/updates_per_s": 20.0,
            }
            file.write(json.dumps(line) + "\n")


def test_events_are_read_from_the_last_offset(tmp_path: Path) -> None:
    events = Events(tmp_path)
    events.emit("stage_started", stage="teacher")
    first, offset = events.read()
    events.emit("stage_done", stage="teacher", seconds=2.5)
    second, _ = events.read(offset)
    assert [event.kind for event in first] == ["stage_started"]
    assert [(event.kind, event.seconds, event.cached) for event in second] == [
        ("stage_done", 2.5, False)
    ]


def test_an_incomplete_line_is_read_by_a_later_call(tmp_path: Path) -> None:
    events = Events(tmp_path)
    events.emit("stage_started", stage="teacher")
    with events.path.open("a") as file:
        file.write('{"time": 1.0, "kind": "stage_do')
    seen, offset = events.read()
    with events.path.open("a") as file:
        file.write('ne", "stage": "teacher"}\n')
    later, _ = events.read(offset)
    assert [event.kind for event in [*seen, *later]] == ["stage_started", "stage_done"]


def test_a_damaged_line_is_skipped(tmp_path: Path) -> None:
    events = Events(tmp_path)
    events.path.write_text("\x00\x00 garbage\n")
    events.emit("run_done")
    assert [event.kind for event in events.read()[0]] == ["run_done"]


def test_lines_of_many_writers_do_not_interleave(tmp_path: Path) -> None:
    events = Events(tmp_path)

    def write(name: str) -> None:
        for done in range(50):
            events.emit("stage_progress", stage=name * 200, done=done)

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found, _ = events.read()
    assert len(found) == 200
    assert {event.stage for event in found} == {name * 200 for name in "abcd"}


def test_the_monitor_follows_stage_progress_and_training(tmp_path: Path, recipe: Recipe) -> None:
    monitor = RunMonitor(tmp_path, recipe)
    events = Events(tmp_path)
    events.emit("stage_started", stage="rounds/00/targets")
    events.emit("stage_progress", stage="rounds/00/targets", done=3, total=12)
    monitor.poll()
    assert monitor.stage is not None
    assert (monitor.stage.done, monitor.stage.total) == (3, 12)
    assert monitor.stage.training is None
    events.emit("stage_done", stage="rounds/00/targets", seconds=1.0)
    events.emit("stage_started", stage="rounds/00/train")
    log_metrics(tmp_path / "rounds" / "00-guidance", 10, 100)
    monitor.poll()
    assert monitor.stage.training is not None
    assert monitor.stage.training.update == 100
    assert monitor.stage.training.seconds_left == 10.0
    assert monitor.updates_done() == 100
    assert monitor.updates_total() == 1800


def test_events_of_an_earlier_command_are_not_repeated(tmp_path: Path, recipe: Recipe) -> None:
    Events(tmp_path).emit("stage_done", stage="teacher", seconds=1.0)
    assert RunMonitor(tmp_path, recipe).poll() == []


def test_a_failed_stage_remains_the_current_stage(tmp_path: Path, recipe: Recipe) -> None:
    monitor = RunMonitor(tmp_path, recipe)
    events = Events(tmp_path)
    events.emit("stage_started", stage="rounds/01/train")
    events.emit("run_failed", stage="rounds/01/train", message="a worker died")
    monitor.poll()
    assert monitor.stage is not None
    assert monitor.stage.id == "rounds/01/train"


def test_the_latest_metrics_of_a_long_file_are_read_from_its_end(tmp_path: Path) -> None:
    log_metrics(tmp_path / "rounds" / "00-guidance", *range(1, 301))
    with (tmp_path / "rounds" / "00-guidance" / "metrics.jsonl").open("a") as file:
        file.write('{"samples_seen": 99')
    training = latest_training(tmp_path)
    assert training is not None
    assert (training.update, training.loss) == (300, 1 / 300)
