"""A run directory with one artifact of each kind, created in a second, untrained."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from pipeline.bundle import Lineage, read_manifest
from pipeline.config import Recipe
from pipeline.config.profile import Profile
from pipeline.documents import apply_override, build, read_yaml
from pipeline.ledger import Artifact, Ledger
from pipeline.models.assemble import family_of, save_bundle
from pipeline.run_dir.recipe_file import prepare_run_dir, record_profile
from pipeline.training.checkpoint import Checkpoints, claim
from pipeline.training.ema_optimiser import OptimiserPlan
from pipeline.training.engines import TorchEngine
from pipeline.training.plan import plan_rounds, round_key
from pipeline.training.round_plan import RoundPlan
from stages.data.shard import shard
from stages.rounds.promote import promotion_key
from stages.rounds.target_worker import TargetWorker
from stages.teacher.adopt import adopt
from stages.workspace import Workspace

GAUSSIAN = Path(__file__).resolve().parents[2] / "flows" / "recipes" / "gaussian.yaml"
ROUND = "ab" * 32
CHECKPOINTS = Path("rounds/02-2-to-1/checkpoints")


def small_recipe(*overrides: str) -> Recipe:
    tree = read_yaml(GAUSSIAN)
    for override in ("data.num_samples=96", "data.shard_size=40", *overrides):
        apply_override(tree, override)
    return build(Recipe, tree, "gaussian.yaml")


def data_and_teacher(run_dir: Path, recipe: Recipe) -> tuple[Artifact, Artifact]:
    """Run the first two stages of a recipe without components."""
    work = Workspace(run_dir, recipe)
    data = shard(work).value
    return data, adopt(work, data).value


def make_run(run_dir: Path, *overrides: str) -> Path:
    """Data, teacher, three rounds with targets, students and promotions, samples, a report."""
    recipe = small_recipe(*overrides)
    prepare_run_dir(recipe, run_dir, accept_changes=False)
    record_profile(Profile(), run_dir)
    data, first = data_and_teacher(run_dir, recipe)
    teacher = first
    students = []
    for plan in plan_rounds(recipe):
        make_targets(run_dir, plan, data, teacher)
        teacher = make_student(run_dir, recipe, plan, data, teacher)
        students.append(teacher)
    make_samples(run_dir, students[-1])
    make_report(run_dir, (data, first, *students))
    return run_dir


def make_targets(run_dir: Path, plan: RoundPlan, data: Artifact, teacher: Artifact) -> None:
    worker = TargetWorker(
        {
            "plan": plan.model_dump(mode="json"),
            "teacher": str(run_dir / teacher.path),
            "data": str(run_dir / data.path),
            "run_dir": str(run_dir),
            "parents": [data.fingerprint, teacher.fingerprint],
            "dtype": "float32",
        }
    )
    for shard_index, first in enumerate((0, 40)):
        worker.serve(
            {
                "key": f"{plan.index}{shard_index}" * 32,
                "path": f"{plan.folder}/targets/pass-000-shard-0000{shard_index}",
                "first": first,
                "count": 20,
                "first_tuple": first,
            }
        )


def make_student(
    run_dir: Path,
    recipe: Recipe,
    plan: RoundPlan,
    data: Artifact,
    teacher: Artifact,
    *,
    parent: str | None = None,
    index: int | None = None,
) -> Artifact:
    """Publish an untrained student; `parent` and `index` override its manifest."""
    lineage = Lineage(
        run=recipe.run.name,
        round=plan.index if index is None else index,
        parent=parent or teacher.digest,
    )
    steps = None if plan.student_steps is None else (plan.student_steps,)
    manifest = read_manifest(run_dir / teacher.path).model_copy(
        update={"role": "student", "w": recipe.guidance.w, "steps": steps, "lineage": lineage}
    )
    family = family_of(manifest)

    def write(folder: Path) -> dict[str, Any]:
        save_bundle(folder, manifest, family.student_of(family.build(), (0.0, 4.0)))
        return {"title": plan.title, "student_steps": plan.student_steps}

    ledger = Ledger(run_dir)
    key = round_key(plan, recipe, "float32", data, teacher)
    parents = (data.fingerprint, teacher.fingerprint)
    student = ledger.publish("student", key, f"{plan.folder}/student", write, parents)

    def write_promotion(path: Path) -> dict[str, Any]:
        path.write_text(json.dumps({"model": recipe.run.name, "version": "1"}))
        return {"version": "1"}

    place = f"{plan.folder}/promotion.json"
    ledger.publish(
        "promotion", promotion_key(student), place, write_promotion, (student.fingerprint,)
    )
    return student


def make_samples(run_dir: Path, student: Artifact, poison: float = 0.0) -> None:
    def write(path: Path) -> dict[str, Any]:
        images = np.full((6, 1, 1, 2), poison, np.float32)
        with path.open("wb") as file:
            np.save(file, images)
        return {"evaluations": 1, "count": 6}

    place = "evaluation/6-samples/samples-round02-ddim-1-w2.npy"
    Ledger(run_dir).publish("samples", "ab" * 32, place, write, (student.fingerprint,))


def make_report(run_dir: Path, parents: tuple[Artifact, ...]) -> None:
    def write(folder: Path) -> dict[str, Any]:
        (folder / "report.json").write_text("{}")
        return {}

    keys = tuple(parent.fingerprint for parent in parents)
    Ledger(run_dir).publish("report", "cd" * 32, "report", write, keys)


def engine_of(value: float) -> TorchEngine:
    """A tiny engine whose weights all have one value."""
    module = nn.Linear(3, 2)
    nn.init.constant_(module.weight, value)
    nn.init.constant_(module.bias, value)
    plan = OptimiserPlan(learning_rate=0.1, total_updates=9, clip_norm=1.0)
    return TorchEngine(module, plan)


def make_checkpoints(run_dir: Path, offset: float = 0.0) -> Path:
    """Commit two checkpoints of a running round; their weights are the updates plus the offset."""
    folder = run_dir / CHECKPOINTS
    claim(folder, "attempt")
    for update in (1, 2):
        Checkpoints(folder, ROUND, 2, "attempt").save(engine_of(update + offset), update)
    return folder


def flip(path: Path, offset: int = -1) -> None:
    """Flip a bit in a file."""
    content = bytearray(path.read_bytes())
    content[offset] ^= 4
    path.write_bytes(bytes(content))


def recommit(run_dir: Path, place: str) -> Artifact:
    """Rewrite an artifact's record for its current files, like damage before hashing."""
    ledger = Ledger(run_dir)
    old = next(artifact for artifact in ledger.records() if artifact.path == place)
    kept = {
        file.relative_to(run_dir / place): file.read_bytes()
        for file in (run_dir / place).rglob("*")
        if file.is_file()
    }

    def write(folder: Path) -> dict[str, Any]:
        for name, content in kept.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return old.details

    return ledger.publish(old.kind, old.fingerprint, place, write, old.parents)
