"""A run as MLflow sees it: a round's numbers while it trains, and what MLflow missed, later."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from flows.run import Run
from infra.mlflow_store import Status
from infra.mlflow_tracker import MetricForwarder
from pipeline.training.plan import TEACHER_ROUND, RoundPlan


def round_run(run: Run, plan: RoundPlan) -> str:
    """The MLflow run of a round, continued if it is there.

    Raises:
        InfraError: MLflow does not answer.
    """
    params: dict[str, Any] = {
        "round": plan.index,
        "method": plan.method,
        "updates": plan.training.updates,
        "batch_size": plan.training.batch_size,
        "learning_rate": plan.learning_rate,
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


@contextmanager
def tracked_round(run: Run, plan: RoundPlan) -> Iterator[None]:
    """Have MLflow follow a round's metrics for the block, and end its run as the block ends.

    What MLflow cannot be told is owed, and the block does not notice.
    """
    metrics = run.run_dir / plan.folder / "metrics.jsonl"
    forwarder = MetricForwarder(run.store, lambda: round_run(run, plan), metrics)
    status: Status = "FAILED"
    try:
        with forwarder:
            yield
        status = "FINISHED"
    finally:
        with run.owed.telling(_numbers(plan)):
            forwarder.check()
            run.store.finish(round_run(run, plan), status)


def tell_numbers(run: Run, plans: Sequence[RoundPlan]) -> None:
    """Tell MLflow the numbers of rounds that it has missed, each once."""
    owed = run.owed.all()
    for plan in plans:
        if _numbers(plan) in owed:
            with tracked_round(run, plan):
                pass  # all of its metrics are in the file already


def _numbers(plan: RoundPlan) -> str:
    return f"{plan.title}: numbers"
