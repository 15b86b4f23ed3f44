"""A teacher that is a few-step model already is found by its samples in one and in many steps."""

import json
import shutil
from pathlib import Path

import pytest

from pipeline.bundle import MANIFEST, read_manifest
from pipeline.ledger import Artifact
from pipeline.training.plan import plan_rounds, plan_teacher
from stages.data.shard import shard
from stages.teacher.adopt import adopt
from stages.teacher.step_check import few_step_notes, notes_on, open_worker, step_counts
from stages.workspace import Workspace, data_notes
from tests.stages.teacher.test_adopt import data_of, recipe_for
from tests.support.cases import teacher_manifest
from tests.support.family_chain import train_here
from tests.support.recipes import shipped_recipe
from tests.support.tiny_pipelines import LATENT, tiny_pipeline


@pytest.mark.parametrize(
    ("spreads", "found"),
    [
        # measured on the digits demo: the teacher, and its students of 4, 2 and 1 steps
        ({1: 0.70, 2: 0.84, 4: 0.92, 16: 0.98}, None),
        ({1: 0.71, 2: 0.90, 4: 1.00, 16: 1.11}, None),
        ({1: 0.76, 2: 1.00, 4: 1.18, 16: 1.34}, "2 steps"),
        ({1: 1.00, 2: 1.70, 4: 2.16, 16: 2.61}, "1 step"),
        ({1: 0.89, 2: 1.46, 4: 1.64, 16: 1.72}, "1 step"),  # slightly blurred
        ({1: 0.0, 16: 1.4}, None),  # badly trained, but not distilled
        ({1: float("nan"), 16: float("nan")}, None),
    ],
)
def test_few_steps_as_varied_as_the_data_and_many_too_varied_are_found(
    spreads: dict[int, float], found: str | None
) -> None:
    notes = notes_on(spreads)
    assert len(notes) == (found is not None)
    assert all(f"distilled to {found} already" in note for note in notes)


def test_step_counts_are_those_of_the_schedule() -> None:
    manifest = teacher_manifest("unet")
    assert step_counts(manifest) == (1, 2, 4, 16)
    schedule = manifest.schedule.model_copy(update={"kind": "cosine", "num_train_timesteps": 1000})
    assert step_counts(manifest.model_copy(update={"schedule": schedule})) == (1, 2, 4, 20)


def test_a_warning_is_a_note_of_the_teacher_in_plan_and_report(tmp_path: Path) -> None:
    recipe = recipe_for(tiny_pipeline("sd", tmp_path / "pipeline"), tmp_path)
    work = Workspace(tmp_path / "run", recipe)
    data, seen = data_of(LATENT, work.run_dir, with_null=True), list[Path]()

    def examine(bundle: Path) -> list[str]:
        seen.append(bundle / read_manifest(bundle).folder)
        return ["The teacher seems to be distilled"]

    teacher = adopt(work, data, examine=examine).value
    assert len(seen) == 1
    assert teacher.details["notes"] == list(data_notes(work.layout))
    assert adopt(work, data, examine=examine).reused
    assert len(seen) == 1


@pytest.mark.nightly  # trains a teacher and its one-step student: 90 s
def test_our_one_step_student_is_found_when_it_is_brought_back_as_a_teacher(
    tmp_path: Path,
) -> None:
    network = "{family: dit, layers: 2, heads: 4, head_dim: 8, patch: 2}"
    recipe = shipped_recipe(
        "digits",
        *(f"teacher.network={network}", "teacher.train.updates=1200"),
        *("teacher.train.batch_size=128", "teacher.train.learning_rate=0.002"),
        *("guidance=null", "halving=null", "targets.mode=online", "evaluation.w=[0]"),
        "rounds=[{method: progressive, teacher: original, config: {steps: 1, teacher_steps: 8, "
        "w: {min: 0, max: 0, mass_at_min: 0}}, training: {updates: 500, batch_size: 128, "
        "learning_rate: 0.001}}]",
    )
    work = Workspace(tmp_path / "run", recipe)
    data = shard(work).value
    first = plan_teacher(recipe)
    assert first is not None
    [plan] = plan_rounds(recipe)
    teacher = train_here(work.run_dir, recipe, first, data, None, None)
    student = train_here(work.run_dir, recipe, plan, data, teacher, None)

    def notes(artifact: Artifact, folder: Path) -> list[str]:
        """Bring a bundle back as a teacher, in whose files nothing tells what it is."""
        shutil.copytree(work.run_dir / artifact.path, folder)
        tree = json.loads((folder / MANIFEST).read_text())
        tree |= {"role": "teacher", "steps": None, "jump": None, "baked_w": None, "w": None}
        (folder / MANIFEST).write_text(json.dumps(tree))
        return few_step_notes(work, data, folder, lambda spec, jobs: map(open_worker(spec), jobs))

    assert notes(teacher, tmp_path / "good") == []
    [warning] = notes(student, tmp_path / "distilled")
    assert "distilled to 1 step already" in warning
