"""A student that is damaged, not finite or of another teacher is not promoted."""

from pathlib import Path
from typing import Literal

import pytest
import torch
from mlflow import MlflowClient
from safetensors.torch import load_file, save_file

from infra.mlflow.store import MlflowStore
from pipeline.bundle import Lineage, Manifest
from pipeline.config import Recipe
from pipeline.documents import apply_override, build, read_yaml
from pipeline.errors import BundleError, DivergenceError
from pipeline.ledger import Artifact, Ledger
from pipeline.models.assemble import family_of, save_bundle
from pipeline.training.plan import plan_rounds
from stages.data.shard import shard
from stages.rounds.promote import (
    Registry,
    accept,
    check_promotable,
    drop_targets,
    promotion_key,
    register,
)
from stages.teacher.adopt import adopt
from stages.workspace import Workspace

RECIPES = Path(__file__).resolve().parents[3] / "flows" / "recipes"
PLAN = plan_rounds(build(Recipe, read_yaml(RECIPES / "gaussian.yaml"), "gaussian.yaml"))[0]


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return build(Recipe, read_yaml(RECIPES / "gaussian.yaml"), "gaussian.yaml")


def work_at(run_dir: Path, keep: Literal["none", "last", "all"]) -> Workspace:
    tree = read_yaml(RECIPES / "gaussian.yaml")
    apply_override(tree, f"targets.keep={keep}")
    return Workspace(run_dir, build(Recipe, tree, "gaussian.yaml"))


def commit_student(
    run_dir: Path, recipe: Recipe, *, parent: str | None = None, poison: bool = False
) -> tuple[Artifact, Artifact]:
    data = shard(Workspace(run_dir, recipe)).value
    teacher = adopt(Workspace(run_dir, recipe), data).value
    manifest = Manifest.model_validate_json((run_dir / "teacher" / "manifest.json").read_text())
    lineage = Lineage(run="gaussian", round=0, parent=parent or teacher.digest)
    manifest = manifest.model_copy(
        update={"role": "student", "w": recipe.guidance.w, "lineage": lineage}
    )
    family = family_of(manifest)

    def write(folder: Path) -> dict[str, int]:
        save_bundle(folder, manifest, family.student_of(family.build(), (0.0, 4.0)))
        if poison:
            file = folder / "gaussian" / "tables.safetensors"
            tables = load_file(file)
            tables["slope.weight"][0, 0] = torch.nan
            save_file(tables, file)
        return {}

    path = f"{PLAN.folder}/student"
    return Ledger(run_dir).publish("student", "k" * 40, path, write), teacher


def test_a_sound_student_is_promoted_once(recipe: Recipe, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    student, teacher = commit_student(run_dir, recipe)
    store = MlflowStore(None, tmp_path, "test")
    chain = store.chain("run", "run", {}, {})
    registry = Registry(store, "model", store.round(chain, "round", "round 0", {}, {}))
    for _ in range(2):
        accept(work_at(run_dir, "all"), PLAN, student=student, teacher=teacher)
        register(run_dir, PLAN, student, registry)
    assert Ledger(run_dir).find(promotion_key(student)) is not None
    client = MlflowClient(store.uri)
    assert [each.version for each in client.search_model_versions("name = 'model'")] == [1]
    aliases = client.get_registered_model("model").aliases
    assert aliases == {"teacher": 1, "student-any-steps": 1}


def test_a_student_that_had_to_wait_does_not_take_the_alias_of_a_later_one(
    recipe: Recipe, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    student, _ = commit_student(run_dir, recipe)
    store = MlflowStore(None, tmp_path, "test")
    chain = store.chain("run", "run", {}, {})
    registry = Registry(store, "model", store.round(chain, "round", "round 0", {}, {}))
    later = plan_rounds(recipe)[1]

    def write(folder: Path) -> dict[str, int]:
        (folder / "weights").write_text("others")
        return {}

    other = Ledger(run_dir).publish("student", "o" * 40, f"{later.folder}/student", write)
    register(run_dir, later, other, registry)
    register(run_dir, PLAN, student, registry)
    aliases = MlflowClient(store.uri).get_registered_model("model").aliases
    assert aliases["teacher"] == 1
    assert aliases["student-any-steps"] == 2


def test_another_teachers_student_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    student, teacher = commit_student(tmp_path, recipe, parent="somebody else")
    with pytest.raises(BundleError, match=r"student not promoted, .* teacher somebody els"):
        check_promotable(tmp_path, PLAN, student, teacher)


def test_weights_that_are_not_finite_are_refused(recipe: Recipe, tmp_path: Path) -> None:
    student, teacher = commit_student(tmp_path, recipe, poison=True)
    with pytest.raises(DivergenceError, match=r"slope\.weight is not finite"):
        check_promotable(tmp_path, PLAN, student, teacher)


def test_a_flipped_bit_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    student, teacher = commit_student(tmp_path, recipe)
    file = tmp_path / student.path / "gaussian" / "tables.safetensors"
    content = bytearray(file.read_bytes())
    content[-3] ^= 4
    file.write_bytes(bytes(content))
    with pytest.raises(BundleError, match=r"tables\.safetensors.*sha256"):
        check_promotable(tmp_path, PLAN, student, teacher)


@pytest.mark.parametrize(("keep", "left"), [("none", {2}), ("last", {1, 2}), ("all", {0, 1, 2})])
def test_promoting_a_round_again_leaves_later_rounds_their_targets(
    recipe: Recipe, tmp_path: Path, keep: Literal["none", "last", "all"], left: set[int]
) -> None:
    run_dir = tmp_path / "run"
    student, teacher = commit_student(run_dir, recipe)
    ledger = Ledger(run_dir)
    rounds = plan_rounds(recipe)

    def write(folder: Path) -> dict[str, int]:
        (folder / "targets.tar").write_bytes(b"targets")
        return {}

    for plan in rounds:
        path = f"{plan.folder}/targets/pass-000-shard-00000"
        ledger.publish("targets", f"{plan.index}" * 40, path, write)
    store = MlflowStore(None, tmp_path, "test")
    chain = store.chain("run", "run", {}, {})
    drop_targets(ledger, rounds[1], keep)
    registry = Registry(store, "model", store.round(chain, "round", "round 0", {}, {}))
    accept(work_at(run_dir, "last"), PLAN, student=student, teacher=teacher)
    register(run_dir, PLAN, student, registry)
    kept = {int(a.fingerprint[0]) for a in ledger.records() if a.kind == "targets"}
    assert kept == left
    assert ledger.find(promotion_key(student)) is not None
