"""Let a student become the next teacher, or say why not."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from infra.mlflow.store import MlflowStore
from pipeline.bundle import read_manifest
from pipeline.errors import BundleError, DivergenceError
from pipeline.failpoints import failpoint
from pipeline.ledger import Artifact, Ledger, fingerprint
from pipeline.training.round_plan import RoundPlan


@dataclass(frozen=True)
class Registry:
    """Where promoted students are registered.

    Attributes:
        store: the MLflow store.
        model: registered model that all students of a chain are versions of.
        run_id: MLflow run of the round.
    """

    store: MlflowStore
    model: str
    run_id: str


def check(run_dir: Path, plan: RoundPlan, student: Artifact, teacher: Artifact) -> None:
    """Only a verified, finite student of this very teacher is promoted.

    Raises:
        BundleError: files changed since the commit, or the lineage is another.
        DivergenceError: weights are not finite.
    """
    ledger = Ledger(run_dir)
    damage = ledger.damage(student)
    if damage:
        raise BundleError(f"{plan.title}: student not promoted, {damage}; run again to redo it")
    bundle = ledger.locate(student)
    manifest = read_manifest(bundle)
    lineage = manifest.lineage
    if (lineage.round, lineage.parent) != (plan.index, teacher.digest):
        raise BundleError(
            f"{plan.title}: student not promoted, its manifest says round {lineage.round} of "
            f"teacher {str(lineage.parent)[:12]}, this is "
            f"round {plan.index} of {teacher.digest[:12]}"
        )
    name = not_finite(bundle)
    if name:
        raise DivergenceError(f"{plan.title}: student not promoted, {name} is not finite")


def not_finite(bundle: Path) -> str | None:
    """The first weight of a bundle that holds NaN or infinity; None if all are finite."""
    from safetensors.torch import load_file

    for file in sorted(bundle.rglob("*.safetensors")):
        for name, tensor in load_file(file).items():
            if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                return name
    return None


def promotion_key(student: Artifact) -> str:
    """Fingerprint of a student's promotion: it happens once for each content."""
    return fingerprint({"stage": "promote", "student": student.digest})


def accept(
    run_dir: Path,
    plan: RoundPlan,
    *,
    student: Artifact,
    teacher: Artifact,
    keep_targets: Literal["none", "last", "all"],
) -> None:
    """Check that the student deserves to be the next teacher, and tidy up behind its round.

    Args:
        run_dir: the run directory.
        plan: the round.
        student: its student.
        teacher: the bundle it was distilled from.
        keep_targets: which rounds' target shards stay on disk from here on.

    Raises:
        BundleError: see `check`.
        DivergenceError: see `check`.
    """
    check(run_dir, plan, student, teacher)
    drop_targets(Ledger(run_dir), plan, keep_targets)


def register(run_dir: Path, plan: RoundPlan, student: Artifact, registry: Registry) -> None:
    """Register an accepted student, once per content, and point the aliases at it.

    The alias `teacher` names the student of the latest round that was promoted; a halving round's
    student is also `student-N-steps`, the guidance round's `student-any-steps`. What is not yet
    recorded as promoted is registered again, to the same end.

    Raises:
        InfraError: MLflow does not answer.
    """
    store, model = registry.store, registry.model
    version = store.register(
        model,
        Ledger(run_dir).locate(student),
        student.digest,
        registry.run_id,
        {"round": str(plan.index), "title": plan.title},
    )
    failpoint("promote.registered")
    store.alias(model, f"student-{plan.made_for}", version)
    failpoint("promote.named")
    ledger = Ledger(run_dir)
    if not any(_round_of(promoted) > plan.index for promoted in _promotions(ledger)):
        store.alias(model, "teacher", version)

    def write(path: Path) -> dict[str, Any]:
        path.write_text(json.dumps({"model": model, "version": version}), encoding="utf-8")
        return {"version": version}

    record = f"{plan.folder}/promotion.json"
    ledger.publish("promotion", promotion_key(student), record, write, (student.fingerprint,))


def _promotions(ledger: Ledger) -> list[Path]:
    """The folders of rounds whose student was promoted before another had to wait for MLflow."""
    promoted = [artifact for artifact in ledger.records() if artifact.kind == "promotion"]
    return [Path(artifact.path).parent for artifact in promoted]


def drop_targets(ledger: Ledger, plan: RoundPlan, keep: str) -> None:
    """Forget the target shards of earlier rounds, and of this one too if `keep` is "none".

    Those of later rounds stay: a resumed chain comes past finished rounds again.
    """
    if keep == "all":
        return
    last = plan.index if keep == "none" else plan.index - 1
    for artifact in ledger.records():
        if artifact.kind == "targets" and _round_of(Path(artifact.path).parents[1]) <= last:
            ledger.forget(artifact)
    for folder in (ledger.run_dir / "rounds").glob("*/targets"):
        if _round_of(folder.parent) <= last:
            shutil.rmtree(folder)  # what an attempt forgot that was killed before it removed it


def _round_of(folder: Path) -> int:
    return int(folder.name.partition("-")[0])
