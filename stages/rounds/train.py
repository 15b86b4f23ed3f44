"""Stage `train`: train a round's student on all workers from its newest checkpoint.

DeepSpeed writes a checkpoint in one part per worker, by ZeRO stage, and can load it with the same
number of workers and ZeRO stage only. Such a layout may change between rounds, but not within one:
`check_layout` stops the run instead of silently discarding the progress, and
`discard_other_layouts` deletes these checkpoints on request.
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
from pipeline.data.latents import read_data_info
from pipeline.data.shards.dataset_info import DatasetInfo
from pipeline.errors import BundleError, ConfigError
from pipeline.ledger import Artifact, Ledger
from pipeline.models.assemble import fresh_manifest
from pipeline.run_dir import layout
from pipeline.run_dir.layout import RunDir
from pipeline.training.checkpoint import checkpoints_of, claim
from pipeline.training.gate_policy import rules_of
from pipeline.training.plan import round_key
from pipeline.training.round_plan import TEACHER_ROUND, AttemptRecord, RoundPlan
from stages.rounds.preview_images import plan_preview
from stages.rounds.targets import check_teacher, target_tar
from stages.workspace import Workspace


def train(
    work: Workspace,
    plan: RoundPlan,
    *,
    data: Artifact,
    teacher: Artifact | None,
    targets: Sequence[Artifact] | None,
) -> Artifact:
    """Train the student of a round from its newest checkpoint, and commit it.

    Callers first look for a committed student by `find_student`, because targets are only needed
    without one. If the recipe has a gate, the student is a candidate until
    `stages.gate.attempts.accept` accepts it.

    Args:
        work: the run.
        plan: the round; `TEACHER_ROUND` trains the teacher itself.
        data: the sharded data set.
        teacher: teacher bundle; None when the teacher is trained from data.
        targets: pregenerated target shards; None to compute targets online.

    Raises:
        ConfigError: the batch size is not divisible by the workers, or the newest checkpoint has
            another layout.
        BundleError: the teacher is not of the previous round, or the student that this round
            starts from is missing.
        DivergenceError: training diverged.
    """
    run_dir, recipe, profile, ledger = work.run_dir, work.recipe, work.profile, work.ledger
    _check_batch(plan, profile)
    if teacher is not None:
        check_teacher(run_dir, plan, teacher)
    job = round_job(work, plan, data=data, teacher=teacher, targets=targets)
    key, attempt, checkpoints = job["key"], job["attempt"], Path(job["checkpoints"])
    check_layout(checkpoints, key, profile, plan.title)
    claim(checkpoints, attempt)

    def write(output: Path) -> dict[str, Any]:
        fit(
            "stages.rounds.train_worker:train",
            {**job, "output": str(output)},
            profile,
            name=f"{recipe.run.name}-{Path(plan.folder).name}-{attempt}",
            storage=work.layout.ray,
        )
        return student_details(work, plan, data, teacher)

    is_teacher = plan.index == TEACHER_ROUND
    start = find_start(ledger, plan)
    parents = tuple(each.fingerprint for each in (data, teacher, start) if each)
    place = layout.candidate_of(plan) if rules_of(recipe, plan) else layout.student_of(plan)
    artifact = ledger.publish(
        "teacher" if is_teacher else "student",
        key,
        layout.TEACHER if is_teacher else place,
        write,
        parents,
    )
    shutil.rmtree(checkpoints, ignore_errors=True)
    return artifact


def round_job(
    work: Workspace,
    plan: RoundPlan,
    *,
    data: Artifact,
    teacher: Artifact | None,
    targets: Sequence[Artifact] | None,
) -> dict[str, Any]:
    """Return the job of a new attempt for `stages.rounds.train_worker`, except `output`.

    The arguments are those of `train`.
    """
    run_dir, recipe, profile, ledger = work.run_dir, work.recipe, work.profile, work.ledger
    start = find_start(ledger, plan)
    key = round_key(plan, recipe, profile.engine.precision, data, teacher)
    preview = plan_preview(work, plan, key)
    return {
        "start": str(ledger.locate(start)) if start else None,
        "key": key,
        "preview": preview and preview.model_dump(mode="json"),
        "attempt": uuid4().hex[:12],
        "checkpoints": str(work.layout.checkpoints(plan)),
        "manifest": _manifest(run_dir, recipe, plan, data, teacher).model_dump(mode="json"),
        "targets": None if targets is None else [str(target_tar(run_dir, t)) for t in targets],
        "plan": plan.model_dump(mode="json"),
        "teacher": str(ledger.locate(teacher)) if teacher else None,
        "data": str(ledger.locate(data)),
        "metrics": str(work.layout.metrics(plan)),
        "engine": profile.engine.model_dump(mode="json"),
    }


def student_details(
    work: Workspace, plan: RoundPlan, data: Artifact, teacher: Artifact | None
) -> dict[str, Any]:
    """Return the details in a student's record: its title, its steps and its attempt.

    With its attempt a student is recognised after the gate of the recipe changed.
    """
    failed = find_start(work.ledger, plan) if plan.again and plan.again.start else None
    if failed is not None:  # an extension belongs to the round of the student that it continues
        before = recorded_attempt(failed)
        key = before.round if before else failed.fingerprint
    else:
        first = plan.model_copy(update={"again": None})
        key = round_key(first, work.recipe, work.profile.engine.precision, data, teacher)
    attempt = AttemptRecord(round=key, again=plan.again, updates=plan.training.updates)
    return {
        "title": plan.title,
        "student_steps": plan.student_steps,
        "attempt": attempt.model_dump(mode="json"),
    }


def recorded_attempt(student: Artifact) -> AttemptRecord | None:
    """Return the attempt in a student's record; None if it has none."""
    found = student.details.get("attempt")
    return None if found is None else AttemptRecord.model_validate(found)


def find_student(
    work: Workspace, plan: RoundPlan, data: Artifact, teacher: Artifact | None
) -> Artifact | None:
    """Return the committed student of a round, verified; None if it is not trained yet."""
    precision = work.profile.engine.precision
    return work.ledger.find(round_key(plan, work.recipe, precision, data, teacher))


def find_start(ledger: Ledger, plan: RoundPlan) -> Artifact | None:
    """Return the student whose weights a round starts from, other than its teacher; None without.

    It is the failed student that an extended round continues, or that of the round `init_from`.

    Raises:
        BundleError: that student is missing or damaged.
    """
    digest = plan.initial_student
    if digest is None:
        return None
    for artifact in ledger.records():
        matches = artifact.kind == "student" and artifact.digest == digest
        if matches and ledger.damage(artifact) is None:
            return artifact
    raise BundleError(
        f"{plan.title}: student {digest[:12]}, which this attempt starts from, is missing or "
        f"damaged in {ledger.run_dir}; run stepfold repair"
    )


def check_layout(checkpoints: Path, key: str, profile: Profile, title: str) -> None:
    """Validate that this profile can continue the round's newest checkpoint.

    Raises:
        ConfigError: the newest undamaged checkpoint has another layout.
    """
    ledger = Ledger(checkpoints)
    for checkpoint in reversed(checkpoints_of(ledger, key)):
        if not _has_other_layout(checkpoint, profile):
            return
        if ledger.damage(checkpoint) is None:
            raise ConfigError(
                f"{title}: checkpoint at update {checkpoint.details['update']} was written by "
                f"{checkpoint.details['layout']}, but the profile has {_layout(profile)}. Use "
                "those compute.workers and engine.zero_stage, or restart the round with "
                "--discard-checkpoints"
            )


def discard_other_layouts(run_dir: Path, profile: Profile) -> int:
    """Delete every checkpoint that this profile cannot continue; return their number."""
    count = 0
    for folder in RunDir(run_dir).all_checkpoints():
        ledger = Ledger(folder)
        for checkpoint in ledger.records():
            if _has_other_layout(checkpoint, profile):
                ledger.forget(checkpoint)
                count += 1
    return count


def _has_other_layout(checkpoint: Artifact, profile: Profile) -> bool:
    return checkpoint.details.get("layout") != _layout(profile)


def _layout(profile: Profile) -> str:
    return layout_of(profile.engine.zero_stage, profile.compute.workers)


def _check_batch(plan: RoundPlan, profile: Profile) -> None:
    if plan.training.batch_size % profile.compute.workers:
        raise ConfigError(
            f"{plan.title}: batch_size {plan.training.batch_size} is not divisible by "
            f"{profile.compute.workers} workers; change one of them"
        )


def _manifest(
    run_dir: Path, recipe: Recipe, plan: RoundPlan, data: Artifact, teacher: Artifact | None
) -> Manifest:
    ledger = Ledger(run_dir)
    lineage = Lineage(
        run=recipe.run.name,
        round=None if plan.index == TEACHER_ROUND else plan.index,
        parent=teacher.digest if teacher else None,
        start=plan.start,
    )
    if teacher is None:
        info = read_data_info(ledger.locate(data))
        names = info.class_names if isinstance(info, DatasetInfo) else ()
        return fresh_manifest(recipe.teacher, info.num_classes, info.latent_shape, lineage, names)
    # the network and its prediction type are those of the first weights
    start = find_start(ledger, plan)
    parent = read_manifest(ledger.locate(start or teacher))
    needs_fixed_w = plan.w is not None and parent.network.why_not_w is not None
    return parent.model_copy(
        update={
            "role": "student",
            "prediction_type": plan.config.prediction or parent.prediction_type,
            "baked_w": plan.w.min if plan.w is not None and needs_fixed_w else None,
            "steps": None if plan.student_steps is None else (plan.student_steps,),
            "direction": plan.direction,
            "sampler": plan.sampler,
            "jump": plan.jump,
            "w": plan.w,
            "lineage": lineage,
        }
    )
