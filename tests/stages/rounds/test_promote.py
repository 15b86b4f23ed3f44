"""A student that is damaged, non-finite or of another teacher is not promoted."""

from pathlib import Path
from typing import Literal

import pytest
import torch
from mlflow import MlflowClient
from safetensors.torch import load_file, save_file

from infra.trackers.mlflow.tracker import MlflowTracker
from pipeline.bundle import Lineage, read_manifest
from pipeline.errors import BundleError, DivergenceError
from pipeline.ledger import Artifact, Ledger
from pipeline.training.plan import plan_rounds
from stages.rounds.promote import (
    Registry,
    accept,
    check_promotable,
    drop_targets,
    promotion_key,
    register,
)
from stages.workspace import Workspace
from tests.support.cases import save_untrained
from tests.support.recipes import shipped_recipe
from tests.support.small_run import data_and_teacher, flip

RECIPE = shipped_recipe("gaussian")
ROUNDS = plan_rounds(RECIPE)
PLAN = ROUNDS[0]


def commit_student(
    run_dir: Path, *, parent: str | None = None, poison: bool = False
) -> tuple[Artifact, Artifact]:
    _, teacher = data_and_teacher(run_dir, RECIPE)
    lineage = Lineage(run="gaussian", round=0, parent=parent or teacher.digest)
    manifest = read_manifest(run_dir / teacher.path).model_copy(
        update={"role": "student", "w": RECIPE.guidance.w, "lineage": lineage}
    )

    def write(folder: Path) -> dict[str, int]:
        save_untrained(folder, manifest)
        if poison:
            file = folder / "gaussian" / "tables.safetensors"
            tables = load_file(file)
            tables["slope.weight"][0, 0] = torch.nan
            save_file(tables, file)
        return {}

    path = f"{PLAN.folder}/student"
    return Ledger(run_dir).publish("student", "k" * 40, path, write), teacher


def open_registry(root: Path) -> Registry:
    store = MlflowTracker(None, root, "test")
    chain = store.start("run", "run", {}, {})
    return Registry(store, "model", store.start("round", "round 0", {}, {}, parent=chain))


def test_a_sound_student_is_promoted_once(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    student, teacher = commit_student(run_dir)
    registry = open_registry(tmp_path)
    for _ in range(2):
        accept(
            Workspace(run_dir, shipped_recipe("gaussian", "targets.keep=all")),
            PLAN,
            student=student,
            teacher=teacher,
        )
        register(run_dir, PLAN, student, registry)
    assert Ledger(run_dir).find(promotion_key(student)) is not None
    client = MlflowClient(registry.tracker.uri)
    assert [each.version for each in client.search_model_versions("name = 'model'")] == [1]
    aliases = client.get_registered_model("model").aliases
    assert aliases == {"teacher": 1, "student-any-steps": 1}


def test_a_student_that_had_to_wait_does_not_take_the_alias_of_a_later_one(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    student, _ = commit_student(run_dir)
    registry = open_registry(tmp_path)
    later = ROUNDS[1]

    def write(folder: Path) -> dict[str, int]:
        (folder / "weights").write_text("others")
        return {}

    other = Ledger(run_dir).publish("student", "o" * 40, f"{later.folder}/student", write)
    register(run_dir, later, other, registry)
    register(run_dir, PLAN, student, registry)
    aliases = MlflowClient(registry.tracker.uri).get_registered_model("model").aliases
    assert aliases["teacher"] == 1
    assert aliases["student-any-steps"] == 2


def test_students_of_other_teachers_damaged_or_not_finite_are_refused(tmp_path: Path) -> None:
    student, teacher = commit_student(tmp_path / "other", parent="somebody else")
    with pytest.raises(BundleError, match=r"student not promoted, .* teacher somebody els"):
        check_promotable(tmp_path / "other", PLAN, student, teacher)
    student, teacher = commit_student(tmp_path / "poison", poison=True)
    with pytest.raises(DivergenceError, match=r"slope\.weight is not finite"):
        check_promotable(tmp_path / "poison", PLAN, student, teacher)
    student, teacher = commit_student(tmp_path / "flipped")
    flip(tmp_path / "flipped" / student.path / "gaussian/tables.safetensors", -3)
    with pytest.raises(BundleError, match=r"tables\.safetensors.*sha256"):
        check_promotable(tmp_path / "flipped", PLAN, student, teacher)


@pytest.mark.parametrize(("keep", "left"), [("none", {2}), ("last", {1, 2}), ("all", {0, 1, 2})])
def test_promoting_a_round_again_leaves_later_rounds_their_targets(
    tmp_path: Path, keep: Literal["none", "last", "all"], left: set[int]
) -> None:
    run_dir = tmp_path / "run"
    student, teacher = commit_student(run_dir)
    ledger = Ledger(run_dir)

    def write(folder: Path) -> dict[str, int]:
        (folder / "targets.tar").write_bytes(b"targets")
        return {}

    for plan in ROUNDS:
        path = f"{plan.folder}/targets/pass-000-shard-00000"
        ledger.publish("targets", f"{plan.index}" * 40, path, write)
    drop_targets(ledger, ROUNDS[1], keep)
    registry = open_registry(tmp_path)
    accept(
        Workspace(run_dir, shipped_recipe("gaussian", "targets.keep=last")),
        PLAN,
        student=student,
        teacher=teacher,
    )
    register(run_dir, PLAN, student, registry)
    kept = {int(a.fingerprint[0]) for a in ledger.records() if a.kind == "targets"}
    assert kept == left
    assert ledger.find(promotion_key(student)) is not None
