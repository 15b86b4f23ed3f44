"""Promotion: validate a student as the next teacher, and register it."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.bundle import read_manifest
from pipeline.errors import BundleError, DivergenceError
from pipeline.failpoints import failpoint
from pipeline.ledger import Artifact, Ledger, fingerprint
from pipeline.run_dir import layout
from pipeline.run_dir.layout import RunDir
from pipeline.tracking import RunTracker
from pipeline.training.round_plan import RoundPlan
from stages.workspace import Workspace


@dataclass(frozen=True)
class Registry:
    """Model registry of promoted students: one `model` per chain, one tracked run per round."""

    tracker: RunTracker
    model: str
    run_id: str


def check_promotable(run_dir: Path, plan: RoundPlan, student: Artifact, teacher: Artifact) -> None:
    """Validate that a student is undamaged, finite and distilled from this teacher.

    Raises:
        BundleError: files changed since the commit, or the lineage does not match.
        DivergenceError: weights are not finite.
    """
    ledger = Ledger(run_dir)
    damage = ledger.damage(student)
    if damage:
        raise BundleError(f"{plan.title}: student not promoted, {damage}; run again to retrain it")
    bundle = ledger.locate(student)
    manifest = read_manifest(bundle)
    lineage = manifest.lineage
    if (lineage.round, lineage.parent) != (plan.index, teacher.digest):
        raise BundleError(
            f"{plan.title}: student not promoted, its manifest has round {lineage.round} and "
            f"teacher {str(lineage.parent)[:12]}; expected round {plan.index} and teacher "
            f"{teacher.digest[:12]}; run stepfold repair"
        )
    name = find_nonfinite_weight(bundle)
    if name:
        raise DivergenceError(
            f"{plan.title}: student not promoted, {name} is not finite; lower learning_rate and "
            "continue with --accept-changes"
        )


def find_nonfinite_weight(bundle: Path) -> str | None:
    """Return the name of the first weight with NaN or infinity; None if all are finite."""
    from safetensors.torch import load_file

    for file in sorted(bundle.rglob("*.safetensors")):
        for name, tensor in load_file(file).items():
            if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                return name
    return None


def promotion_key(student: Artifact) -> str:
    """Return the fingerprint of a student's promotion, which happens once per content."""
    return fingerprint({"stage": "promote", "student": student.digest})


def accept(work: Workspace, plan: RoundPlan, *, student: Artifact, teacher: Artifact) -> None:
    """Validate the student as the next teacher, and delete targets according to `targets.keep`.

    Raises:
        BundleError: see `check_promotable`.
        DivergenceError: see `check_promotable`.
    """
    check_promotable(work.run_dir, plan, student, teacher)
    drop_targets(work.ledger, plan, work.recipe.targets.keep)


def register(run_dir: Path, plan: RoundPlan, student: Artifact, registry: Registry) -> None:
    """Register an accepted student, once per content, and set its aliases.

    The alias `teacher` is the student of the latest promoted round. A halving round's student is
    also `student-N-steps`, the guidance round's `student-any-steps`. Registration is idempotent: it
    is repeated until the promotion is recorded.

    Raises:
        InfraError: the tracker is unreachable.
    """
    tracker, model = registry.tracker, registry.model
    ledger = Ledger(run_dir)
    tags = {"round": str(plan.index), "title": plan.title}
    bundle = ledger.locate(student)
    version = tracker.register(registry.run_id, model, bundle, student.digest, tags)
    failpoint("promote.registered")
    if version is not None:
        tracker.set_alias(model, f"student-{plan.sampling_target}", version)
        failpoint("promote.named")
        if not any(_round_of(promoted) > plan.index for promoted in _promotions(ledger)):
            tracker.set_alias(model, "teacher", version)

    def write(path: Path) -> dict[str, Any]:
        path.write_text(json.dumps({"model": model, "version": version}), encoding="utf-8")
        return {"version": version}

    ledger.publish(
        "promotion",
        promotion_key(student),
        layout.promotion_of(plan),
        write,
        (student.fingerprint,),
    )


def _promotions(ledger: Ledger) -> list[Path]:
    """Return the folders of promoted rounds; later ones too if the tracker was unreachable."""
    promoted = [artifact for artifact in ledger.records() if artifact.kind == "promotion"]
    return [Path(artifact.path).parent for artifact in promoted]


def drop_targets(ledger: Ledger, plan: RoundPlan, keep: str) -> None:
    """Delete the target shards of earlier rounds, and of this round too if `keep` is "none".

    Targets of later rounds are kept, because a resumed chain visits finished rounds again.
    """
    if keep == "all":
        return
    last = plan.index if keep == "none" else plan.index - 1
    for artifact in ledger.records():
        if artifact.kind == "targets" and _round_of(Path(artifact.path).parents[1]) <= last:
            ledger.forget(artifact)
    for folder in RunDir(ledger.run_dir).all_targets():
        if _round_of(folder.parent) <= last:
            shutil.rmtree(folder)  # left if killed between the record and the files


def _round_of(folder: Path) -> int:
    return int(folder.name.partition("-")[0])
