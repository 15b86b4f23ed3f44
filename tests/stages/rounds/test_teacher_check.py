"""A round's teacher must be the undamaged student of the previous round."""

import json
import re
import shutil
from pathlib import Path

import pytest

from pipeline.errors import BundleError
from pipeline.ledger import Artifact, Ledger
from pipeline.training.plan import plan_rounds
from pipeline.training.round_plan import RoundPlan
from stages.rounds.promote import check_promotable
from stages.rounds.targets import check_teacher, pregenerate
from stages.rounds.train import train
from stages.workspace import Workspace
from tests.support.small_run import (
    flip,
    make_run,
    make_student,
    recommit,
    small_recipe,
)
from tests.support.tiny_pipelines import edit

RECIPE = small_recipe()
ROUNDS = plan_rounds(RECIPE)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("made") / "run")


@pytest.fixture
def run_dir(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


def at(run_dir: Path, place: str) -> Artifact:
    return next(a for a in reversed(Ledger(run_dir).records()) if a.path == place)


def refused(run_dir: Path, plan: RoundPlan, teacher: Artifact) -> str:
    """Return the error of both stages that use a teacher, before they start or write anything."""
    ledger, data = Ledger(run_dir), at(run_dir, "data")
    for artifact in ledger.records():
        if artifact.path.startswith(plan.folder):
            ledger.forget(artifact)
    before = sorted(run_dir.rglob("*"))
    work = Workspace(run_dir, RECIPE)
    with pytest.raises(BundleError) as one:
        train(work, plan, data=data, teacher=teacher, targets=None)
    with pytest.raises(BundleError) as other:
        pregenerate(work, plan, data=data, teacher=teacher)
    assert sorted(run_dir.rglob("*")) == before
    assert str(one.value) == str(other.value)
    return str(one.value)


def test_teachers_in_their_place_are_taken(run_dir: Path) -> None:
    taught = ["teacher", *(f"{plan.folder}/student" for plan in ROUNDS[:-1])]
    checked = [
        check_teacher(run_dir, p, at(run_dir, t)) for p, t in zip(ROUNDS, taught, strict=True)
    ]
    assert checked == [None, None, None]


def test_a_damaged_teacher_is_found_before_use(run_dir: Path) -> None:
    first, teacher = at(run_dir, f"{ROUNDS[0].folder}/student"), at(run_dir, "teacher")
    edit(run_dir / first.path / "manifest.json", lineage={"run": "x", "round": 1, "parent": None})
    message = refused(run_dir, ROUNDS[1], first)
    assert re.search("teacher is damaged, .*manifest.json.*stepfold repair", message)
    flip(run_dir / teacher.path / "gaussian/tables.safetensors")
    assert re.search(
        "teacher is damaged, .*tables.safetensors", refused(run_dir, ROUNDS[0], teacher)
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
    lineage: dict[str, object],
    said: str,
) -> None:
    place = f"{ROUNDS[0].folder}/student"
    manifest = run_dir / place / "manifest.json"
    tree = json.loads(manifest.read_text())
    tree["lineage"] |= lineage
    manifest.write_text(json.dumps(tree))
    message = refused(run_dir, ROUNDS[1], recommit(run_dir, place))
    assert re.search(said, message)


def test_a_teacher_of_another_round_is_refused(run_dir: Path) -> None:
    first, second = (at(run_dir, f"{plan.folder}/student") for plan in ROUNDS[:2])
    for plan, teacher, message in (
        (ROUNDS[2], first, "student of round 0, expected the student of round 1"),
        (ROUNDS[2], at(run_dir, "teacher"), "a teacher, expected the student of round 1"),
        (ROUNDS[0], second, "student of round 1, expected a teacher"),
    ):
        assert re.search(message, refused(run_dir, plan, teacher))


def test_an_older_student_put_in_the_place_of_a_newer_is_no_student(run_dir: Path) -> None:
    older, newer = (at(run_dir, f"{plan.folder}/student") for plan in ROUNDS[:2])
    shutil.rmtree(run_dir / newer.path)
    shutil.copytree(run_dir / older.path, run_dir / newer.path)
    assert Ledger(run_dir).find(newer.fingerprint) is None
    with pytest.raises(BundleError, match="student not promoted"):
        check_promotable(run_dir, ROUNDS[1], newer, older)
    with pytest.raises(BundleError, match="teacher is damaged"):
        check_teacher(run_dir, ROUNDS[2], newer)


def test_an_older_student_with_its_own_record_is_another_lineage(run_dir: Path) -> None:
    """Restore bundle and record together from an earlier teacher."""
    plan, teacher = ROUNDS[1], at(run_dir, f"{ROUNDS[0].folder}/student")
    old = make_student(run_dir, RECIPE, plan, at(run_dir, "data"), teacher, parent="0" * 64)
    assert Ledger(run_dir).find(old.fingerprint) == old
    with pytest.raises(BundleError, match="teacher 000000000000"):
        check_promotable(run_dir, plan, old, teacher)
    message = refused(run_dir, ROUNDS[2], old)
    assert re.search("unknown parent 000000000000", message)


def test_a_valid_target_shard_at_the_path_of_another_is_not_used(run_dir: Path) -> None:
    folder = f"{ROUNDS[0].folder}/targets"
    records = Ledger(run_dir).records()
    one, other = (a for a in records if a.kind == "targets" and a.path.startswith(folder))
    for file in (run_dir / one.path).iterdir():
        shutil.copy(file, run_dir / other.path / file.name)
    assert Ledger(run_dir).find(other.fingerprint) is None
    assert Ledger(run_dir).find(one.fingerprint) == one
