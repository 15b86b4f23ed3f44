"""The events and stage times of a run, and its progress as read from events and metrics files."""

import json
import shutil
import threading
from pathlib import Path

import pytest

from pipeline.config import Recipe
from pipeline.documents import build, read_yaml
from pipeline.run_dir.events import Events, Timing
from pipeline.run_dir.monitor import RunMonitor, latest_training
from tests.support.terminal import GAUSSIAN


@pytest.fixture
def events(tmp_path: Path) -> Events:
    return Events(tmp_path)


@pytest.fixture
def recipe() -> Recipe:
    return build(Recipe, read_yaml(GAUSSIAN), "gaussian.yaml")


def log_metrics(folder: Path, *updates: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    known = {"total_updates": 300, "time/updates_per_s": 20.0}
    with (folder / "metrics.jsonl").open("a") as file:
        for update in updates:
            of = {"samples_seen": update * 10, "update": update, "train/loss": 1 / update}
            file.write(json.dumps(known | of) + "\n")
    return folder / "metrics.jsonl"


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def test_events_are_read_from_the_last_offset_and_damaged_lines_are_skipped(events: Events) -> None:
    events.path.write_text("\x00\x00 garbage\n")
    events.emit("stage_started", stage="teacher")
    first, offset = events.read()
    events.emit("stage_done", stage="teacher", seconds=2.5)
    second, offset = events.read(offset)
    assert [event.kind for event in first] == ["stage_started"]
    assert [(event.kind, event.seconds, event.cached) for event in second] == [
        ("stage_done", 2.5, False)
    ]
    # an incomplete line is read by a later call
    append(events.path, '{"time": 1.0, "kind": "stage_do')
    seen, offset = events.read(offset)
    append(events.path, 'ne", "stage": "teacher"}\n')
    assert (seen, [event.kind for event in events.read(offset)[0]]) == ([], ["stage_done"])


def test_lines_of_many_writers_do_not_interleave(events: Events) -> None:
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


def test_the_monitor_follows_stage_progress_and_training(
    events: Events, tmp_path: Path, recipe: Recipe
) -> None:
    events.emit("stage_done", stage="teacher", seconds=1.0)  # of an earlier command
    monitor = RunMonitor(tmp_path, recipe)
    assert monitor.poll() == []
    events.emit("stage_started", stage="rounds/00/targets")
    events.emit("stage_progress", stage="rounds/00/targets", done=3, total=12)
    monitor.poll()
    assert (monitor.stage.done, monitor.stage.total) == (3, 12)
    assert monitor.stage.training is None
    events.emit("stage_done", stage="rounds/00/targets", seconds=1.0)
    events.emit("stage_started", stage="rounds/00/train")
    log_metrics(tmp_path / "rounds" / "00-guidance", 10, 100)
    events.emit("run_failed", stage="rounds/00/train", message="a worker died")
    monitor.poll()
    assert monitor.stage.id == "rounds/00/train"  # the one that failed
    assert monitor.stage.training.update == 100
    assert monitor.stage.training.seconds_left == 10.0
    assert (monitor.updates_done(), monitor.updates_total()) == (100, 1800)


def test_the_latest_metrics_of_a_long_file_are_read_from_its_end(tmp_path: Path) -> None:
    path = log_metrics(tmp_path / "rounds" / "00-guidance", *range(1, 301))
    append(path, '{"samples_seen": 99')
    training = latest_training(tmp_path)
    assert training is not None
    assert (training.update, training.loss) == (300, 1 / 300)


def measure(run_dir: Path, stage: str, title: str) -> None:
    with Timing(run_dir).measure(stage, title):
        pass


def test_a_stage_that_runs_again_adds_its_time_and_one_that_fails_counts(tmp_path: Path) -> None:
    measured = Timing(tmp_path).measure("rounds/00/train", "round 0, train")
    with pytest.raises(ValueError, match="broken"), measured:
        raise ValueError("broken")
    assert "rounds/00/train" in Timing(tmp_path).seconds()
    assert "round 0, train" in Timing(tmp_path).by_title()
    measure(tmp_path, "rounds/00/train", "round 0, train")
    measure(tmp_path, "evaluate", "evaluate")
    content = json.loads((tmp_path / "timing.json").read_text())
    assert [(stage["stage"], stage["title"]) for stage in content["stages"]] == [
        *(("rounds/00/train", "round 0, train"), ("evaluate", "evaluate")),
    ]
    total = sum(stage["seconds"] for stage in content["stages"])
    assert content["total_seconds"] == pytest.approx(total, abs=0.02)  # each is rounded to 0.01


def test_each_new_report_directory_gets_a_copy(tmp_path: Path) -> None:
    report = tmp_path / "report"
    for stage in ("teacher", "evaluate"):
        shutil.rmtree(report, ignore_errors=True)
        report.mkdir()
        measure(tmp_path, stage, stage)
    content = json.loads((report / "timing.json").read_text())
    assert [stage["stage"] for stage in content["stages"]] == ["teacher", "evaluate"]
