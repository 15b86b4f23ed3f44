"""Checkpoints of another number of workers or ZeRO stage: refused with the way out, or discarded.

DeepSpeed writes a checkpoint in as many parts as there are workers, each by its ZeRO stage, and
reads it into the same layout only. Between rounds the layout is free: what a round hands on is
whole. Inside a round it is not, and to begin the round anew in silence would lose its work.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from infra.launch import fit
from pipeline.bundle import Lineage, Manifest, read_manifest
from pipeline.config import Recipe
from pipeline.config.profile import Profile, layout_of
from pipeline.data.open_samples import read_content
from pipeline.errors import BundleError, ConfigError
from pipeline.ledger import Artifact, Ledger
from pipeline.models.assemble import fresh_manifest
from pipeline.training.checkpoint import claim
from pipeline.training.gate_policy import rules_of
from pipeline.training.plan import round_key
from pipeline.training.round_plan import TEACHER_ROUND, RoundPlan
from stages.rounds.preview_images import preview_of
from stages.rounds.targets import target_tar
from stages.rounds.teacher_check import check_teacher


def check_layout(checkpoints: Path, key: str, profile: Profile, title: str) -> None:
    """Refuse to train past a checkpoint that cannot be continued by this profile.

    Args:
        checkpoints: folder of the round's checkpoints.
        key: fingerprint of the round.
        profile: where it is to go on.
        title: of the round.

    Raises:
        ConfigError: the newest sound checkpoint is of another layout.
    """
    ledger = Ledger(checkpoints)
    own = [a for a in ledger.records() if a.details.get("round") == key]
    newest_first = sorted(own, key=lambda found: -int(found.details["update"]))
    for found in newest_first:
        if not _is_other(found, profile):
            return
        if ledger.damage(found) is None:
            raise ConfigError(
                f"{title}: its checkpoint at update {found.details['update']} is of "
                f"{found.details['layout']}, this profile trains with {_layout(profile)}. Go on "
                "with the compute.workers and engine.zero_stage that it names, or begin the round "
                "anew with --discard-checkpoints"
            )


def discard_other_layouts(run_dir: Path, profile: Profile) -> int:
    """Forget every checkpoint that this profile cannot continue; how many there were."""
    count = 0
    for folder in run_dir.glob("rounds/*/checkpoints"):
        ledger = Ledger(folder)
        for found in ledger.records():
            if _is_other(found, profile):
                ledger.forget(found)
                count += 1
    return count


def _is_other(checkpoint: Artifact, profile: Profile) -> bool:
    return checkpoint.details.get("layout") != _layout(profile)


def _layout(profile: Profile) -> str:
    return layout_of(profile.engine.zero_stage, profile.compute.workers)


def find_student(
    run_dir: Path,
    recipe: Recipe,
    profile: Profile,
    plan: RoundPlan,
    data: Artifact,
    teacher: Artifact | None,
) -> Artifact | None:
    """The committed student of a round, verified; None if it has to be trained."""
    return Ledger(run_dir).find(round_key(plan, recipe, profile.engine.precision, data, teacher))


def distill(
    run_dir: Path,
    recipe: Recipe,
    profile: Profile,
    plan: RoundPlan,
    *,
    data: Artifact,
    teacher: Artifact | None,
    targets: Sequence[Artifact] | None,
) -> Artifact:
    """The student of a round: the committed one, or train from the newest checkpoint and commit.

    Where the recipe has a gate, it is a candidate until `stages.gate.attempts.accept` accepts it.

    Args:
        run_dir: the run directory, seen by every worker.
        recipe: what to run.
        profile: where to run it.
        plan: the round; `TEACHER_ROUND` trains the teacher itself.
        data: the sharded data set.
        teacher: the bundle to learn from; None when the teacher is trained from data.
        targets: pre-generated target shards; None to compute targets online.

    Raises:
        ConfigError: the batch does not divide, or the newest checkpoint is of another layout.
        BundleError: the teacher is not of the round before, or what is trained on is gone.
        DivergenceError: training went bad.
    """
    found = find_student(run_dir, recipe, profile, plan, data, teacher)
    if found:
        return found
    _check_batch(plan, profile)
    if teacher is not None:
        check_teacher(run_dir, plan, teacher)
    ledger = Ledger(run_dir)
    job = round_job(run_dir, recipe, profile, plan, data=data, teacher=teacher, targets=targets)
    key, attempt, checkpoints = job["key"], job["attempt"], Path(job["checkpoints"])
    check_layout(checkpoints, key, profile, plan.title)
    claim(checkpoints, attempt)

    def train(output: Path) -> dict[str, Any]:
        fit(
            "stages.rounds.train_worker:train",
            {**job, "output": str(output)},
            profile,
            name=f"{recipe.run.name}-{Path(plan.folder).name}-{attempt}",
            storage=run_dir / "ray",
        )
        return {"title": plan.title, "student_steps": plan.student_steps}

    is_teacher = plan.index == TEACHER_ROUND
    start = find_start(ledger, plan)
    parents = tuple(each.fingerprint for each in (data, teacher, start) if each)
    made = "candidate" if rules_of(recipe, plan) else "student"
    artifact = ledger.publish(
        "teacher" if is_teacher else "student",
        key,
        "teacher" if is_teacher else f"{plan.folder}/{made}",
        train,
        parents,
    )
    shutil.rmtree(checkpoints, ignore_errors=True)
    return artifact


def round_job(
    run_dir: Path,
    recipe: Recipe,
    profile: Profile,
    plan: RoundPlan,
    *,
    data: Artifact,
    teacher: Artifact | None,
    targets: Sequence[Artifact] | None,
) -> dict[str, Any]:
    """A fresh attempt at a round, as `stages.rounds.train_worker` is told it, but for its `output`.

    Arguments are those of `distill`.
    """
    ledger = Ledger(run_dir)
    start = find_start(ledger, plan)
    key = round_key(plan, recipe, profile.engine.precision, data, teacher)
    preview = preview_of(run_dir, recipe, profile, plan, key)
    return {
        "start": str(ledger.locate(start)) if start else None,
        "key": key,
        "preview": preview and preview.model_dump(mode="json"),
        "attempt": uuid4().hex[:12],
        "checkpoints": str(run_dir / plan.folder / "checkpoints"),
        "manifest": _manifest(run_dir, recipe, plan, data, teacher).model_dump(mode="json"),
        "targets": None if targets is None else [str(target_tar(run_dir, t)) for t in targets],
        **_inputs(ledger, profile, plan, data, teacher),
    }


def find_start(ledger: Ledger, plan: RoundPlan) -> Artifact | None:
    """The failed student that an extended round trains on; None where training begins anew.

    Raises:
        BundleError: it is not there any more.
    """
    if plan.again is None or plan.again.start is None:
        return None
    for artifact in ledger.records():
        is_it = artifact.kind == "student" and artifact.digest == plan.again.start
        if is_it and ledger.damage(artifact) is None:
            return artifact
    raise BundleError(
        f"{plan.title}: student {plan.again.start[:12]}, which it trains on, is not in "
        f"{ledger.run_dir} any more; run stepfold repair"
    )


def _check_batch(plan: RoundPlan, profile: Profile) -> None:
    if plan.training.batch_size % profile.compute.workers:
        raise ConfigError(
            f"{plan.title}: batch_size {plan.training.batch_size} is not divisible by "
            f"{profile.compute.workers} workers; change one of them"
        )


def _inputs(
    ledger: Ledger, profile: Profile, plan: RoundPlan, data: Artifact, teacher: Artifact | None
) -> dict[str, Any]:
    return {
        "plan": plan.model_dump(mode="json"),
        "teacher": str(ledger.locate(teacher)) if teacher else None,
        "data": str(ledger.locate(data)),
        "metrics": str(ledger.run_dir / plan.folder / "metrics.jsonl"),
        "engine": profile.engine.model_dump(mode="json"),
    }


def _manifest(
    run_dir: Path, recipe: Recipe, plan: RoundPlan, data: Artifact, teacher: Artifact | None
) -> Manifest:
    ledger = Ledger(run_dir)
    lineage = Lineage(
        run=recipe.run.name,
        round=None if plan.index == TEACHER_ROUND else plan.index,
        parent=teacher.digest if teacher else None,
    )
    if teacher is None:
        info = read_content(ledger.locate(data))
        return fresh_manifest(recipe.teacher, info.num_classes, info.latent_shape, lineage)
    parent = read_manifest(ledger.locate(teacher))
    bakes = plan.w is not None and parent.network.why_not_w is not None
    return parent.model_copy(
        update={
            "role": "student",
            "prediction_type": plan.prediction or parent.prediction_type,
            "baked_w": plan.w.min if plan.w is not None and bakes else None,
            "steps": None if plan.student_steps is None else (plan.student_steps,),
            "direction": plan.direction,
            "sampler": plan.sampler,
            "jump": plan.jump,
            "w": plan.w,
            "lineage": lineage,
        }
    )
