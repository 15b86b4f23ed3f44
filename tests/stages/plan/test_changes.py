"""A change of recipe or precision: the results that it replaces are listed before they go."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Recipe
from pipeline.config.profile import EngineConfig, Profile
from pipeline.errors import ConfigError
from pipeline.run_dir import layout
from pipeline.run_dir.events import Timing
from pipeline.run_dir.layout import RunDir
from pipeline.run_dir.recipe_file import prepare_run_dir
from pipeline.training.plan import plan_rounds
from stages.plan.changes import check_changes, recomputed_stages
from tests.support.gate_case import GATE
from tests.support.small_run import make_run, small_recipe

ROUNDS = ("rounds/00-guidance", "rounds/01-4-to-2", "rounds/02-2-to-1")
BFLOAT16 = Profile(engine=EngineConfig(precision="bfloat16"))


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; its last round took 90 s."""
    run_dir = make_run(tmp_path_factory.mktemp("changes") / "run")
    timing = RunDir(run_dir).timing
    timing.parent.mkdir(exist_ok=True)
    timing.write_text(
        '{"stages": [{"stage": "rounds/02-2-to-1/train", "title": "train", "seconds": 90.0}]}'
    )
    assert Timing(run_dir).seconds() == {"rounds/02-2-to-1/train": 90.0}
    return run_dir


def recomputed(run_dir: Path, recipe: Recipe, profile: Profile = Profile()) -> list[str]:  # noqa: B008
    return [each.row.step.id for each in recomputed_stages(recipe, profile, run_dir)]


def test_a_change_lists_what_it_replaces_with_updates_and_time(run_dir: Path) -> None:
    longer = small_recipe("halving.updates=77")
    later = [f"{folder}/{stage}" for folder in ROUNDS[1:] for stage in ("targets", "train")]
    assert recomputed(run_dir, longer) == [*later, "evaluate"]
    with pytest.raises(ConfigError) as refused:
        check_changes(longer, Profile(), run_dir, accept_changes=False)
    text = str(refused.value)
    assert "77 updates" in text
    assert "took 1:30" in text
    assert "--accept-changes" in text
    check_changes(longer, Profile(), run_dir, accept_changes=True)


def test_a_change_of_round_0_replaces_every_later_round(run_dir: Path) -> None:
    again = recomputed(run_dir, small_recipe("guidance.updates=7"))
    trained = [each for each in again if each.endswith("/train")]
    assert trained == [f"{folder}/train" for folder in ROUNDS]


def test_nothing_is_listed_without_a_change_or_where_nothing_is_finished(
    run_dir: Path, tmp_path: Path
) -> None:
    assert recomputed(run_dir, small_recipe()) == []
    assert recomputed(tmp_path / "new", small_recipe("run.seed=1")) == []


def test_another_precision_is_refused_if_it_replaces_results(run_dir: Path) -> None:
    assert f"{ROUNDS[0]}/train" in recomputed(run_dir, small_recipe(), BFLOAT16)
    with pytest.raises(ConfigError, match=r"engine\.precision: bfloat16 .* float32"):
        check_changes(small_recipe(), BFLOAT16, run_dir, accept_changes=False)
    check_changes(small_recipe(), BFLOAT16, run_dir, accept_changes=True)


def test_another_precision_is_not_refused_before_a_student_is_trained(
    run_dir: Path, tmp_path: Path
) -> None:
    early = tmp_path / "early"
    shutil.copytree(run_dir, early)
    for artifact in RunDir(early).ledger.records():
        if artifact.path.startswith(("rounds/", "report")):
            RunDir(early).ledger.forget(artifact)
    check_changes(small_recipe(), BFLOAT16, early, accept_changes=False)


def test_a_looser_bound_does_not_train_a_failed_student_again(
    run_dir: Path, tmp_path: Path
) -> None:
    stopped = tmp_path / "stopped"
    shutil.copytree(run_dir, stopped)
    ledger, plan = RunDir(stopped).ledger, plan_rounds(small_recipe())[0]
    for artifact in ledger.records():
        if artifact.path == layout.student_of(plan):
            failed = artifact
        elif artifact.path.startswith(("rounds/", "report")):
            ledger.forget(artifact)

    def write(folder: Path) -> dict[str, Any]:
        shutil.copytree(stopped / failed.path, folder, dirs_exist_ok=True)
        return failed.details

    ledger.publish("student", failed.fingerprint, layout.candidate_of(plan), write, failed.parents)
    shutil.rmtree(stopped / failed.path)
    prepare_run_dir(small_recipe(GATE), stopped, accept_changes=True)
    assert recomputed(stopped, small_recipe(GATE, "gate.rms=9")) == []
    longer = recomputed(stopped, small_recipe(GATE, "guidance.updates=7"))
    assert longer == [f"{plan.folder}/train"]


def test_a_gate_that_is_added_keeps_the_students_until_it_has_judged_them(run_dir: Path) -> None:
    assert recomputed(run_dir, small_recipe(GATE)) == ["evaluate"]
