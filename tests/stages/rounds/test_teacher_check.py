"""A round's teacher must be the undamaged student of the previous round."""

import json
import re
import shutil
from pathlib import Path

import pytest

from pipeline.config import Recipe
from pipeline.errors import BundleError
from pipeline.ledger import Artifact, Ledger
from pipeline.training.plan import plan_rounds
from pipeline.training.round_plan import RoundPlan
from stages.data.shard import shard
from stages.rounds.promote import check_promotable
from stages.rounds.targets import pregenerate
from stages.rounds.teacher_check import check_teacher
from stages.rounds.train import train
from stages.teacher.adopt import adopt
from stages.workspace import Workspace
from tests.support.small_run import (
    flip,
    make_run,
    make_student,
    make_targets,
    recommit,
    small_recipe,
)


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return small_recipe()


@pytest.fixture(scope="module")
def rounds(recipe: Recipe) -> tuple[RoundPlan, ...]:
    return plan_rounds(recipe)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


def at(run_dir: Path, place: str) -> Artifact:
    return next(a for a in reversed(Ledger(run_dir).records()) if a.path == place)


def refused(run_dir: Path, recipe: Recipe, plan: RoundPlan, teacher: Artifact) -> str:
    """What both stages that ask a teacher say of it, before anything is started or written."""
    ledger, data = Ledger(run_dir), at(run_dir, "data")
    for artifact in ledger.records():
        if artifact.path.startswith(plan.folder):
            ledger.forget(artifact)
    before = sorted(run_dir.rglob("*"))
    work = Workspace(run_dir, recipe)
    with pytest.raises(BundleError) as one:
        train(work, plan, data=data, teacher=teacher, targets=None)
    with pytest.raises(BundleError) as other:
        pregenerate(work, plan, data=data, teacher=teacher)
    assert sorted(run_dir.rglob("*")) == before
    assert str(one.value) == str(other.value)
    return str(one.value)


def test_teachers_in_their_place_are_taken(
    run_dir: Path, recipe: Recipe, rounds: tuple[RoundPlan, ...]
) -> None:
    taught = ["teacher", *(f"{plan.folder}/student" for plan in rounds[:-1])]
    checked = [
        check_teacher(run_dir, p, at(run_dir, t)) for p, t in zip(rounds, taught, strict=True)
    ]
    assert checked == [None, None, None]


def test_a_manifest_edited_in_its_place_is_damage(
    run_dir: Path, recipe: Recipe, rounds: tuple[RoundPlan, ...]
) -> None:
    teacher = at(run_dir, f"{rounds[0].folder}/student")
    manifest = run_dir / teacher.path / "manifest.json"
    tree = json.loads(manifest.read_text())
    tree["lineage"]["round"] = 1
    manifest.write_text(json.dumps(tree))
    assert re.search(
        "teacher is damaged, .*manifest.json.*stepfold repair",
        refused(run_dir, recipe, rounds[1], teacher),
    )


@pytest.mark.parametrize(
    ("lineage", "said"),
    [
        ({"round": 5}, "student of round 5, expected the student of round 0"),
        ({"round": None}, "a student, expected the student of round 0"),
        ({"parent": "ab" * 32}, "unknown parent abababababab"),
    ],
)
def test_a_manifest_edited_with_its_record_is_another_lineage(
    run_dir: Path,
    recipe: Recipe,
    rounds: tuple[RoundPlan, ...],
    lineage: dict[str, object],
    said: str,
) -> None:
    place = f"{rounds[0].folder}/student"
    manifest = run_dir / place / "manifest.json"
    tree = json.loads(manifest.read_text())
    tree["lineage"] |= lineage
    manifest.write_text(json.dumps(tree))
    message = refused(run_dir, recipe, rounds[1], recommit(run_dir, place))
    assert re.search(said, message)


def test_a_teacher_of_another_round_is_refused(
    run_dir: Path, recipe: Recipe, rounds: tuple[RoundPlan, ...]
) -> None:
    first = at(run_dir, f"{rounds[0].folder}/student")
    assert re.search(
        "student of round 0, expected the student of round 1",
        refused(run_dir, recipe, rounds[2], first),
    )
    assert re.search(
        "a teacher, expected the student of round 1",
        refused(run_dir, recipe, rounds[2], at(run_dir, "teacher")),
    )
    second = at(run_dir, f"{rounds[1].folder}/student")
    assert re.search(
        "student of round 1, expected a teacher", refused(run_dir, recipe, rounds[0], second)
    )


def test_an_older_student_put_in_the_place_of_a_newer_is_no_student(
    run_dir: Path, recipe: Recipe, rounds: tuple[RoundPlan, ...]
) -> None:
    older, newer = (at(run_dir, f"{plan.folder}/student") for plan in rounds[:2])
    shutil.rmtree(run_dir / newer.path)
    shutil.copytree(run_dir / older.path, run_dir / newer.path)
    assert Ledger(run_dir).find(newer.fingerprint) is None
    with pytest.raises(BundleError, match="student not promoted"):
        check_promotable(run_dir, rounds[1], newer, older)
    with pytest.raises(BundleError, match="teacher is damaged"):
        check_teacher(run_dir, rounds[2], newer)


def test_an_older_student_with_its_own_record_is_another_lineage(
    run_dir: Path, recipe: Recipe, rounds: tuple[RoundPlan, ...]
) -> None:
    """As if bundle and record had come back together from a backup of an earlier teacher."""
    plan, teacher = rounds[1], at(run_dir, f"{rounds[0].folder}/student")
    old = make_student(run_dir, recipe, plan, at(run_dir, "data"), teacher, parent="0" * 64)
    assert Ledger(run_dir).find(old.fingerprint) == old
    with pytest.raises(BundleError, match="teacher 000000000000"):
        check_promotable(run_dir, plan, old, teacher)
    message = refused(run_dir, recipe, rounds[2], old)
    assert re.search("unknown parent 000000000000", message)


def test_a_valid_target_shard_at_the_path_of_another_is_not_used(tmp_path: Path) -> None:
    run_dir, recipe = tmp_path / "run", small_recipe()
    data = shard(Workspace(run_dir, recipe)).value
    make_targets(
        run_dir, plan_rounds(recipe)[0], data, adopt(Workspace(run_dir, recipe), data).value
    )
    one, other = (a for a in Ledger(run_dir).records() if a.kind == "targets")
    for file in (run_dir / one.path).iterdir():
        shutil.copy(file, run_dir / other.path / file.name)
    assert Ledger(run_dir).find(other.fingerprint) is None
    assert Ledger(run_dir).find(one.fingerprint) == one


def test_a_flipped_bit_in_a_teacher_is_found_before_use(
    run_dir: Path, recipe: Recipe, rounds: tuple[RoundPlan, ...]
) -> None:
    teacher = at(run_dir, "teacher")
    flip(run_dir / teacher.path / "gaussian/tables.safetensors")
    assert re.search(
        "teacher is damaged, .*tables.safetensors", refused(run_dir, recipe, rounds[0], teacher)
    )
