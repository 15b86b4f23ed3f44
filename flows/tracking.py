"""A run as MLflow sees it: a round's numbers while it trains, and what MLflow missed, later."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from flows.run import Run
from infra.mlflow_content import log_curves, log_sources, log_tags
from infra.mlflow_store import Status
from infra.mlflow_tracker import MetricForwarder
from pipeline.errors import InfraError
from pipeline.ledger import Artifact, Ledger
from pipeline.training.plan import plan_teacher
from pipeline.training.round_plan import TEACHER_ROUND, RoundPlan
from stages.origins import marks_of_round, sources_of_chain, sources_of_round
from stages.pictures import Picture, make_pictures, sampling_steps, show_pictures

_log = logging.getLogger(__name__)


def round_run(run: Run, plan: RoundPlan, *, is_at_work: bool = True) -> str:
    """The MLflow run of a round, continued if it is there.

    Args:
        run: the run.
        plan: the round.
        is_at_work: whether it trains; if not, a run that has ended stays so.

    Raises:
        InfraError: MLflow does not answer.
    """
    tags = {"run_dir": run.path, "steps": plan.student_steps or "any"}
    if plan.index == TEACHER_ROUND:
        tags |= {"kind": "teacher", "steps": run.recipe.teacher.reference_steps}
    return run.store.round(
        run.chain_id,
        key=f"{run.path}/{plan.folder}",
        name=plan.title.replace(", any w in one evaluation", ""),  # a legend has little room
        params=_params(run, plan),
        tags=tags,
        is_at_work=is_at_work,
    )


def _params(run: Run, plan: RoundPlan) -> dict[str, Any]:
    """What columns and comparisons are made of: numbers as numbers, one name in every round."""
    engine, compute = run.profile.engine, run.profile.compute
    params: dict[str, Any] = {
        "round": plan.index,
        "method": plan.method,
        "updates": plan.training.updates,
        "batch_size": plan.training.batch_size,
        "learning_rate": plan.learning_rate,
        "loss_weight": plan.loss_weight,
        "targets": run.recipe.targets.mode,
        "precision": engine.precision,
        "zero_stage": engine.zero_stage,
        "workers": compute.workers,
        "gpus": compute.workers * compute.gpus_per_worker,
        "seed": plan.seed,
    }
    if plan.teacher_steps:
        params |= {"teacher_steps": plan.teacher_steps, "student_steps": plan.student_steps}
    if plan.w:
        params |= {"w_min": plan.w.min, "w_max": plan.w.max}
    return params


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


def tell_result(run: Run, plan: RoundPlan, made: Artifact) -> list[Picture]:
    """Tell MLflow what a round has made, from what, what it took, and how it looks.

    Returns:
        The pictures, for whoever else shows them.
    """
    pictures = _pictures_of(run, plan, made)
    if plan.index == 0:  # data and teacher are there by now
        _tell_origin(run)
    with run.owed.telling(_result(plan)):
        round_id = round_run(run, plan, is_at_work=False)
        log_sources(run.store, round_id, sources_of_round(run.run_dir, plan, made))
        log_tags(run.store, round_id, marks_of_round(run.run_dir, plan, made))
        steps = sampling_steps(run.recipe, plan)
        show_pictures(pictures, run.recipe, plan, run.store, (run.chain_id, round_id))
        seconds = run.timing.stages().get(training_label(plan))
        is_of_curve = plan.index != TEACHER_ROUND and plan.direction == "decode"
        if seconds is not None and is_of_curve:
            log_curves(run.store, run.chain_id, [("chain/distil_s", seconds, steps)])
    return pictures


def tell_verdict(run: Run, plan: RoundPlan, said: str, numbers: Mapping[str, float]) -> None:
    """Tell MLflow what the gate found: in words, which make a column, and numbers.

    If it does not answer it is not told again: the verdict is an artifact of the round's.
    """
    steps = sampling_steps(run.recipe, plan)
    try:
        round_id = round_run(run, plan, is_at_work=False)
        log_tags(run.store, round_id, {"gate": said})
        log_curves(run.store, round_id, [(f"gate/{n}", v, steps) for n, v in numbers.items()])
    except InfraError as error:
        _log.warning("%s: MLflow was not told what the gate found (%s)", plan.title, error)


def tell_missed(run: Run, plans: Sequence[RoundPlan], made: Sequence[Artifact]) -> None:
    """Tell MLflow origins and results that it has missed, each once."""
    owed = run.owed.all()
    if _ORIGIN in owed:
        _tell_origin(run)
    teacher = plan_teacher(run.recipe)
    trained = [each for each in Ledger(run.run_dir).records() if each.path == "teacher"]
    both = [*zip(plans, made, strict=True), *((teacher, each) for each in trained if teacher)]
    for plan, artifact in both:
        if _result(plan) in owed:
            tell_result(run, plan, artifact)


def _tell_origin(run: Run) -> None:
    with run.owed.telling(_ORIGIN):
        log_sources(run.store, run.chain_id, sources_of_chain(run.run_dir))


def _pictures_of(run: Run, plan: RoundPlan, made: Artifact) -> list[Picture]:
    try:
        return make_pictures(run.run_dir, run.recipe, run.profile, plan, made)
    except Exception as error:  # a picture is worth no round
        _log.warning("%s: no pictures (%s)", plan.title, error)
        return []


_ORIGIN = "where the chain comes from"


def _numbers(plan: RoundPlan) -> str:
    return f"{plan.title}: numbers"


def _result(plan: RoundPlan) -> str:
    return f"{plan.title}: result"


def training_label(plan: RoundPlan) -> str:
    """What the stage is called in which a round trains."""
    return plan.title if plan.index == TEACHER_ROUND else f"{plan.title}, distil"
