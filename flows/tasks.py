"""The tasks of every chain, one for each stage."""

from typing import Any

from flows.run import Run
from flows.stage_task import perform, skipped, stage_task, telling
from infra.mlflow_store import Status
from infra.mlflow_tracker import MetricForwarder
from pipeline.ledger import Artifact, Ledger
from pipeline.training.plan import TEACHER_ROUND, RoundPlan, plan_rounds, plan_teacher
from stages import adopt, distill, evaluate, pregenerate, promote, publish, shard


@stage_task
def shard_task(run: Run, label: str) -> Artifact:
    """The data set as shards."""
    found = Ledger(run.run_dir).find(shard.shard_key(run.recipe))
    if found:
        return skipped(run, label, found)
    return perform(run, label, lambda: shard.shard(run.recipe, run.run_dir))


@stage_task
def teacher_task(run: Run, label: str, data: Artifact) -> Artifact:
    """The guided teacher: trained here, or taken in."""
    plan = plan_teacher(run.recipe)
    if plan is None:
        found = Ledger(run.run_dir).find(adopt.adopt_key(run.recipe, data))
        if found:
            return skipped(run, label, found)
        return perform(run, label, lambda: adopt.adopt(run.run_dir, run.recipe, data))
    return _train(run, label, plan, data, None, None)


@stage_task
def pregenerate_task(
    run: Run, label: str, plan: RoundPlan, data: Artifact, teacher: Artifact
) -> tuple[Artifact, ...] | None:
    """The round's targets, unless they are computed online or nobody needs them any more."""
    student = distill.find_student(run.run_dir, run.recipe, run.profile, plan, data, teacher)
    if student or run.recipe.targets.mode == "online":
        return skipped(run, label, None)

    return perform(
        run,
        label,
        lambda: pregenerate.pregenerate(
            run.run_dir,
            run.recipe,
            run.profile,
            plan,
            data=data,
            teacher=teacher,
            progress=telling(run, label),
        ),
    )


@stage_task
def distill_task(
    run: Run,
    label: str,
    plan: RoundPlan,
    data: Artifact,
    teacher: Artifact,
    targets: tuple[Artifact, ...] | None,
) -> Artifact:
    """The round's student."""
    return _train(run, label, plan, data, teacher, targets)


def _train(
    run: Run,
    label: str,
    plan: RoundPlan,
    data: Artifact,
    teacher: Artifact | None,
    targets: tuple[Artifact, ...] | None,
) -> Artifact:
    found = distill.find_student(run.run_dir, run.recipe, run.profile, plan, data, teacher)
    if found:
        return skipped(run, label, found)
    round_id = round_run(run, plan)
    metrics = run.run_dir / plan.folder / "metrics.jsonl"
    status: Status = "FAILED"
    try:
        with MetricForwarder(run.store, round_id, metrics):
            student = perform(
                run,
                label,
                lambda: distill.distill(
                    run.run_dir,
                    run.recipe,
                    run.profile,
                    plan,
                    data=data,
                    teacher=teacher,
                    targets=targets,
                ),
            )
        status = "FINISHED"
    finally:
        run.store.finish(round_id, status)
    return student


def round_run(run: Run, plan: RoundPlan) -> str:
    """The MLflow run of a round, continued if it is there."""
    params: dict[str, Any] = {
        "round": plan.index,
        "method": plan.method,
        "updates": plan.training.updates,
        "batch_size": plan.training.batch_size,
        "learning_rate": plan.training.learning_rate,
    }
    if plan.teacher_steps:
        params |= {"teacher_steps": plan.teacher_steps, "student_steps": plan.student_steps}
    if plan.w:
        params |= {"w_min": plan.w.min, "w_max": plan.w.max}
    return run.store.round(
        run.chain_id,
        key=f"{run.path}/{plan.folder}",
        name=plan.title,
        params=params,
        tags={"kind": "teacher"} if plan.index == TEACHER_ROUND else {},
    )


@stage_task
def promote_task(
    run: Run, label: str, plan: RoundPlan, student: Artifact, teacher: Artifact
) -> Artifact:
    """The student becomes the next round's teacher, if it deserves it."""
    if Ledger(run.run_dir).find(promote.promotion_key(student)):
        return skipped(run, label, student)
    return perform(
        run,
        label,
        lambda: promote.promote(
            run.run_dir,
            plan,
            student=student,
            teacher=teacher,
            registry=promote.Registry(run.store, run.recipe.run.name, round_run(run, plan)),
            keep_targets=run.recipe.targets.keep,
        ),
    )


@stage_task
def evaluate_task(
    run: Run,
    label: str,
    data: Artifact,
    teacher: Artifact,
    students: tuple[Artifact, ...],
    parts: Artifact | None,
) -> Artifact:
    """The report: every student against the teacher and the training-free samplers."""
    key = evaluate.report_key(run.recipe, data, teacher, students)
    found = Ledger(run.run_dir).find(key)
    if found:
        return skipped(run, label, found)
    return perform(
        run,
        label,
        lambda: evaluate.evaluate(
            run.run_dir,
            run.recipe,
            run.profile,
            data=data,
            teacher=teacher,
            students=students,
            components=parts,
            progress=telling(run, label),
        ),
    )


@stage_task
def publish_task(run: Run, label: str, report: Artifact) -> None:
    """The report, in MLflow."""
    rounds = {plan.index: round_run(run, plan) for plan in plan_rounds(run.recipe)}
    perform(
        run,
        label,
        lambda: publish.publish(
            run.run_dir, report, store=run.store, chain_id=run.chain_id, round_ids=rounds
        ),
    )
    for round_id in rounds.values():
        run.store.finish(round_id, "FINISHED")
