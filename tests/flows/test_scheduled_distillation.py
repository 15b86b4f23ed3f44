"""Which run a scheduled flow run selects, and the schedule history."""

import os
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.scheduled_distillation import ScheduleHistory, check_name, select_run
from pipeline.config import Recipe
from pipeline.documents import build
from pipeline.errors import ConfigError
from pipeline.ledger import Ledger
from pipeline.run_dir.events import Events
from pipeline.run_dir.recipe_file import prepare_run_dir, read_recipe
from pipeline.run_dir.run_status import is_finished
from tests.support.recipes import shipped_recipe

NIGHT = datetime(2026, 11, 21, 2, 0, 0, tzinfo=UTC)


def recipe(name: str = "gaussian", seed: int = 0) -> Recipe:
    return shipped_recipe("gaussian", f"run.name={name}", f"run.seed={seed}")


def begin(root: Path, named: Recipe, began: float) -> Path:
    run_dir = root / named.run.name
    prepare_run_dir(named, run_dir, accept_changes=False)
    os.utime(run_dir / "recipe.yaml", (began, began))
    return run_dir


def write_report(run_dir: Path) -> None:
    def write(folder: Path) -> dict[str, int]:
        (folder / "report.json").write_text("{}")
        return {}

    Ledger(run_dir).publish("report", "00" * 32, "report", write)


def test_the_first_run_is_named_after_the_scheduled_time(tmp_path: Path) -> None:
    run = select_run(recipe(), tmp_path, NIGHT)
    assert run.run_dir == tmp_path / "gaussian-20261121T020000Z"
    assert run.recipe.run.name == run.run_dir.name
    assert not run.is_resumed
    assert list(tmp_path.iterdir()) == []
    there = NIGHT.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert select_run(recipe(), tmp_path, there) == run


def test_an_unfinished_run_is_resumed_and_a_finished_one_is_followed_by_a_new_one(
    tmp_path: Path,
) -> None:
    begun = begin(tmp_path, select_run(recipe(), tmp_path, NIGHT).recipe, 1000)
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "recipe.yaml").write_text("version: 0\n")  # is skipped
    run = select_run(recipe(), tmp_path, NIGHT + timedelta(days=1))
    assert (run.run_dir, run.is_resumed) == (begun, True)
    assert run.recipe == read_recipe(begun)
    write_report(begun)
    run = select_run(recipe(), tmp_path, NIGHT + timedelta(days=1))
    assert (run.run_dir.name, run.is_resumed) == ("gaussian-20261122T020000Z", False)


def test_the_newest_unfinished_run_is_resumed(tmp_path: Path) -> None:
    by_hand = begin(tmp_path, recipe(), 500)
    assert select_run(recipe(), tmp_path, NIGHT).run_dir == by_hand
    begin(tmp_path, recipe("gaussian-20261120T020000Z"), 2000)
    begin(tmp_path, recipe("gaussian-20261121T020000Z"), 1000)
    assert select_run(recipe(), tmp_path, NIGHT).run_dir.name == "gaussian-20261120T020000Z"


@pytest.mark.parametrize(
    "other",
    [
        recipe("gaussian-20261120T020000Z", seed=1),
        recipe("gaussian-tuned"),
        recipe("another-20261120T020000Z"),
    ],
)
def test_a_run_of_another_recipe_or_of_other_values_is_left_alone(
    tmp_path: Path, other: Recipe
) -> None:
    begin(tmp_path, other, 1000)
    assert select_run(recipe(), tmp_path, NIGHT).run_dir.name == "gaussian-20261121T020000Z"


def test_a_report_finishes_the_recipe_it_was_made_for_only(tmp_path: Path) -> None:
    run_dir = begin(tmp_path, recipe(), 1000)
    assert not is_finished(run_dir)
    write_report(run_dir)
    assert is_finished(run_dir)
    (run_dir / "report").rename(run_dir / "aside")
    assert not is_finished(run_dir)
    (run_dir / "aside").rename(run_dir / "report")
    later = recipe(seed=5)
    prepare_run_dir(later, run_dir, accept_changes=True)
    os.utime(run_dir / "recipe.yaml", (2e10, 2e10))
    assert not is_finished(run_dir)
    os.utime(run_dir / "recipe.yaml", (1000, 1000))
    Events(run_dir).emit("run_done")
    assert is_finished(run_dir)


def test_a_name_too_long_for_the_time_is_rejected() -> None:
    check_name(recipe("n" * 47))
    with pytest.raises(ConfigError, match="at most 47 characters"):
        check_name(recipe("n" * 48))


@given(st.datetimes(min_value=datetime(2000, 1, 1), max_value=datetime(2099, 1, 1)))
def test_the_names_of_scheduled_runs_are_valid(when: datetime) -> None:
    run = select_run(recipe("n" * 47), Path("/nowhere"), when.replace(tzinfo=UTC))
    assert build(Recipe, run.recipe.model_dump(mode="json"), "test") == run.recipe


def test_the_history_has_the_end_of_the_last_run(tmp_path: Path) -> None:
    history = ScheduleHistory(tmp_path / "runs", "gaussian")
    assert history.last_end() == 0.0
    history.append("started", tmp_path / "runs" / "one")
    assert history.last_end() == 0.0
    history.append("failed", tmp_path / "runs" / "one", "no luck")
    ended = history.last_end()
    history.append("skipped", None, "too late")
    assert 0 < ended == history.last_end()
    assert [entry.outcome for entry in history.read()] == ["started", "failed", "skipped"]
