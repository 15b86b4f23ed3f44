"""The events of a run, and what is read from them and from the metrics files."""

import json
import threading
from pathlib import Path

import pytest

from pipeline.config import Recipe
from pipeline.documents import build, read_yaml
from pipeline.run_dir.events import Events
from pipeline.run_dir.monitor import Follower, newest_training
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


def test_events_are_read_from_where_the_last_look_ended(tmp_path: Path) -> None:
    events = Events(tmp_path)
    events.emit("stage_started", label="teacher")
    first, offset = events.read()
    events.emit("stage_done", label="teacher", seconds=2.5)
    second, _ = events.read(offset)
    assert [event.kind for event in first] == ["stage_started"]
    assert [(event.kind, event.seconds, event.cached) for event in second] == [
        ("stage_done", 2.5, False)
    ]


def test_a_line_still_being_written_is_left_for_the_next_look(tmp_path: Path) -> None:
    events = Events(tmp_path)
    events.emit("stage_started", label="teacher")
    with events.path.open("a") as file:
        file.write('{"time": 1.0, "kind": "stage_do')
    seen, offset = events.read()
    with events.path.open("a") as file:
        file.write('ne", "label": "teacher"}\n')
    later, _ = events.read(offset)
    assert [event.kind for event in [*seen, *later]] == ["stage_started", "stage_done"]


def test_a_damaged_line_costs_nothing_but_itself(tmp_path: Path) -> None:
    events = Events(tmp_path)
    events.path.write_text("\x00\x00 garbage\n")
    events.emit("run_done")
    assert [event.kind for event in events.read()[0]] == ["run_done"]


def test_lines_of_many_writers_do_not_mix(tmp_path: Path) -> None:
    events = Events(tmp_path)

    def write(name: str) -> None:
        for done in range(50):
            events.emit("stage_progress", label=name * 200, done=done)

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found, _ = events.read()
    assert len(found) == 200
    assert {event.label for event in found} == {name * 200 for name in "abcd"}


def test_the_follower_knows_the_stage_its_progress_and_its_training(
    tmp_path: Path, recipe: Recipe
) -> None:
    follower = Follower(tmp_path, recipe)
    events = Events(tmp_path)
    events.emit("stage_started", label="round 0, pre-generate targets")
    events.emit("stage_progress", label="round 0, pre-generate targets", done=3, total=12)
    follower.poll()
    assert follower.stage is not None
    assert (follower.stage.done, follower.stage.total) == (3, 12)
    assert follower.stage.training is None
    events.emit("stage_done", label="round 0, pre-generate targets", seconds=1.0)
    events.emit("stage_started", label="round 0, distil")
    log_metrics(tmp_path / "rounds" / "00-guidance", 10, 100)
    follower.poll()
    assert follower.stage.training is not None
    assert follower.stage.training.update == 100
    assert follower.stage.training.seconds_left == 10.0
    assert follower.updates_done() == 100
    assert follower.updates_total() == 1800


def test_what_an_earlier_command_did_is_not_told_again(tmp_path: Path, recipe: Recipe) -> None:
    Events(tmp_path).emit("stage_done", label="teacher", seconds=1.0)
    assert Follower(tmp_path, recipe).poll() == []


def test_a_stage_that_failed_stays_the_place_of_the_failure(tmp_path: Path, recipe: Recipe) -> None:
    follower = Follower(tmp_path, recipe)
    events = Events(tmp_path)
    events.emit("stage_started", label="round 1, distil")
    events.emit("run_failed", label="round 1, distil", message="a worker died")
    follower.poll()
    assert follower.stage is not None
    assert follower.stage.label == "round 1, distil"


def test_the_newest_numbers_of_a_long_file_are_found_at_its_end(tmp_path: Path) -> None:
    log_metrics(tmp_path / "rounds" / "00-guidance", *range(1, 301))
    with (tmp_path / "rounds" / "00-guidance" / "metrics.jsonl").open("a") as file:
        file.write('{"samples_seen": 99')
    training = newest_training(tmp_path)
    assert training is not None
    assert (training.update, training.loss) == (300, 1 / 300)
