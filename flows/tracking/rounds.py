"""A run as MLflow sees it: a round's numbers while it trains, and what MLflow missed, later."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from flows.run import Attempt, MadeRound, Run
from infra.mlflow.content import log_curves, log_sources, log_tags
from infra.mlflow.store import Status
from infra.mlflow.tracker import MetricForwarder
from pipeline.errors import InfraError
from pipeline.ledger import Artifact, Ledger
from pipeline.tracking import curve_name
from pipeline.training.gate_policy import rules_of
from pipeline.training.plan import plan_rounds, plan_teacher, round_key
from pipeline.training.round_plan import TEACHER_ROUND, RoundPlan
from stages.chain import DISTIL
from stages.rounds.preview_images import (
    Picture,
    make_pictures,
    sampling_steps,
    show_in_chain,
    show_in_round,
)
from stages.rounds.provenance import marks_of_round, sources_of_chain, sources_of_round

_log = logging.getLogger(__name__)


def round_run(run: Run, plan: RoundPlan, *, is_at_work: bool = True) -> str:
    """The MLflow run of a round, continued if what was trained in it is what is meant now.

    A round that is trained anew, as after a change of the recipe, has a run of its own.

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
        training=training_of(run, plan),
    )


def training_of(run: Run, plan: RoundPlan) -> str | None:
    """What the round trains, from what lies in the run directory; None before its inputs do.

    It is the fingerprint of the student, which the run and every later one finds it by.
    """
    ledger = Ledger(run.run_dir)
    placed = {each.path: each for each in ledger.records()}  # the newest record of a place holds
    data = placed.get("latents" if run.recipe.teacher.has_components else "data")
    place = _place_of_parent(run, plan)
    teacher = placed.get(place) if place else None
    if data is None or (place and teacher is None):
        return None
    return round_key(plan, run.recipe, run.profile.engine.precision, data, teacher)


def _place_of_parent(run: Run, plan: RoundPlan) -> str | None:
    if plan.parent is None:
        return None
    if plan.parent == TEACHER_ROUND:
        return "teacher"
    parent = next(each for each in plan_rounds(run.recipe) if each.index == plan.parent)
    return f"{parent.folder}/student"


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
def tracked_round(
    run: Run, plan: RoundPlan, done: Status = "FINISHED", *, trains: bool = True
) -> Iterator[None]:
    """Have MLflow follow a round's metrics for the block, and end its run as the block ends.

    A block that comes to its end leaves the status `done`; one that raises has failed. What MLflow
    cannot be told is owed, and the block does not notice. A block that `trains` writes its metrics
    first, so what is there before that is not told.
    """
    metrics = run.run_dir / plan.folder / "metrics.jsonl"
    forwarder = MetricForwarder(
        run.store, lambda: round_run(run, plan), metrics, awaits_writer=trains
    )
    status: Status = "FAILED"
    try:
        with forwarder:
            yield
        status = done
    finally:
        with run.owed.telling(_numbers(plan)):
            forwarder.check()
            run.store.finish(round_run(run, plan), status)


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
        show_in_round(pictures, run.recipe, plan, run.store, round_id)
        if rules_of(run.recipe, plan) is None:
            _tell_chain(run, plan, pictures)
    return pictures


def tell_accepted(run: Run, made: MadeRound) -> None:
    """Tell MLflow that a round's gate let a student through: where that lies now, and the chain.

    What an attempt looks like is of the chain when its student may teach, and not before.

    Raises:
        InfraError: MLflow does not answer.
    """
    round_id = round_run(run, made.accepted, is_at_work=False)
    log_tags(run.store, round_id, marks_of_round(run.run_dir, made.plan, made.student))
    _tell_chain(run, made.accepted, _pictures_of(run, made.accepted, made.student))


def _tell_chain(run: Run, plan: RoundPlan, pictures: list[Picture]) -> None:
    show_in_chain(pictures, run.recipe, plan, run.store, run.chain_id)
    seconds = run.timing.stages().get(training_label(plan))
    is_of_curve = plan.index != TEACHER_ROUND and plan.direction == "decode"
    if seconds is not None and is_of_curve:
        steps = sampling_steps(run.recipe, plan)
        name = curve_name("chain/distil_s", is_stochastic=plan.sampler == "stochastic")
        log_curves(run.store, run.chain_id, [(name, seconds, steps)])


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


def tell_missed(run: Run, rounds: Sequence[MadeRound]) -> None:
    """Tell MLflow the origins, numbers and results that it has missed, each once.

    Those of attempts that failed are told as well. What the recipe has no attempt for any more is
    told by nobody: it stays in the files of its round.
    """
    owed = run.owed.all()
    if _ORIGIN in owed:
        _tell_origin(run)
    attempts = [*_teacher(run), *(each for made in rounds for each in made.attempts)]
    for plan, made in attempts:
        if _numbers(plan) in owed:
            with tracked_round(run, plan, "FINISHED" if made else "FAILED", trains=False):
                pass  # all of its metrics are in the file already
        if made and _result(plan) in owed:
            tell_result(run, plan, made)
    known = {f"{plan.title}{ending}" for plan, _ in attempts for ending in _ENDINGS}
    for what in owed:
        if what.endswith(_ENDINGS) and what not in known:
            _log.warning("%s: no part of the recipe any more, MLflow is not told", what)
            run.owed.drop(what)


def _teacher(run: Run) -> list[Attempt]:
    plan = plan_teacher(run.recipe)
    trained = [each for each in Ledger(run.run_dir).records() if each.path == "teacher"]
    return [(plan, each) for each in trained if plan]


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

_NUMBERS, _RESULT, _PROMOTION = _ENDINGS = (": numbers", ": result", ": promotion")


def _numbers(plan: RoundPlan) -> str:
    return f"{plan.title}{_NUMBERS}"


def _result(plan: RoundPlan) -> str:
    return f"{plan.title}{_RESULT}"


def promotion_of(plan: RoundPlan) -> str:
    """How the registration of a round's student is called where it is owed."""
    return f"{plan.title}{_PROMOTION}"


def training_label(plan: RoundPlan) -> str:
    """What the stage is called in which a round trains."""
    return plan.title if plan.index == TEACHER_ROUND else plan.title + DISTIL
