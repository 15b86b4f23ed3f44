"""Tracking of rounds: metrics during training, results, and pending updates."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from flows.run import Attempt, CompletedRound, Run
from infra.metric_forwarder import MetricForwarder
from pipeline.config import ProgressiveConfig
from pipeline.errors import InfraError
from pipeline.ledger import Artifact, Ledger
from pipeline.run_dir import layout
from pipeline.tracking import RunStatus, curve_name
from pipeline.training.gate_policy import rules_of
from pipeline.training.plan import plan_rounds, plan_teacher, round_key
from pipeline.training.round_plan import TEACHER_ROUND, RoundPlan
from stages.chain import train_step
from stages.rounds.preview_images import (
    PreviewImage,
    log_previews,
    log_to_chain,
    make_previews,
)
from stages.rounds.provenance import inputs_of_chain, inputs_of_round, tags_of_round

_log = logging.getLogger(__name__)


def round_run_id(run: Run, plan: RoundPlan, *, is_training: bool = True) -> str:
    """Open the tracked run of a round and return its id.

    An existing run is continued if it tracks the same training. A training with other inputs or
    settings, such as after a change of the recipe, gets a new run.

    Args:
        run: the run.
        plan: plan of the round.
        is_training: whether the round trains; if not, the status of an existing run is kept.

    Raises:
        InfraError: the tracker is unreachable.
    """
    tags = {"run_dir": run.path, "steps": plan.student_steps or "any"}
    if plan.index == TEACHER_ROUND:
        tags |= {"kind": "teacher", "steps": run.recipe.teacher.reference_steps}
    return run.tracker.start(
        key=f"{run.id}/{plan.folder}",
        name=plan.title.replace(", any w in one evaluation", ""),  # short, for chart legends
        params=_params(run, plan),
        tags=tags,
        parent=run.chain_id,
        training=training_fingerprint(run, plan),
        is_running=is_training,
    )


def training_fingerprint(run: Run, plan: RoundPlan) -> str | None:
    """Return the fingerprint of the student that a round trains; None without its inputs.

    It identifies the training, and is the key under which the student is committed.
    """
    artifacts = run.workspace.layout.artifacts()
    data = artifacts.get(layout.LATENTS if run.recipe.teacher.has_components else layout.DATA)
    path = _parent_path(run, plan)
    teacher = artifacts.get(path) if path else None
    if data is None or (path and teacher is None):
        return None
    return round_key(plan, run.recipe, run.profile.engine.precision, data, teacher)


def _parent_path(run: Run, plan: RoundPlan) -> str | None:
    if plan.parent is None:
        return None
    if plan.parent == TEACHER_ROUND:
        return layout.TEACHER
    parent = next(each for each in plan_rounds(run.recipe) if each.index == plan.parent)
    return layout.student_of(parent)


def _params(run: Run, plan: RoundPlan) -> dict[str, Any]:
    """Return the tracked parameters of a round, under the same names in every round."""
    engine, compute = run.profile.engine, run.profile.compute
    params: dict[str, Any] = {
        "round": plan.index,
        "method": plan.method,
        "updates": plan.training.updates,
        "batch_size": plan.training.batch_size,
        "learning_rate": plan.learning_rate,
        "loss": plan.loss.kind,
        "loss_weight": plan.loss.weight,
        "targets": plan.targets.mode,
        "precision": engine.precision,
        "zero_stage": engine.zero_stage,
        "workers": compute.workers,
        "gpus": compute.workers * compute.gpus_per_worker,
        "seed": plan.seed,
    }
    if isinstance(plan.config, ProgressiveConfig):
        params |= {"teacher_steps": plan.config.teacher_steps, "student_steps": plan.config.steps}
    if plan.w:
        params |= {"w_min": plan.w.min, "w_max": plan.w.max}
    return params


@contextmanager
def track_round(
    run: Run, plan: RoundPlan, done: RunStatus = "FINISHED", *, trains: bool = True
) -> Iterator[None]:
    """Forward the metrics of a round to the tracker during the block, then end its tracked run.

    An unreachable tracker does not affect the block; the update stays in the outbox.

    Args:
        run: the run.
        plan: plan of the round.
        done: final status if the block succeeds; FAILED if it raises.
        trains: whether the block trains; metrics written before it starts are then skipped,
            because training rewrites the file.
    """
    metrics = run.workspace.layout.metrics(plan)
    forwarder = MetricForwarder(
        run.tracker, lambda: round_run_id(run, plan), metrics, awaits_writer=trains
    )
    status: RunStatus = "FAILED"
    try:
        with forwarder:
            yield
        status = done
    finally:
        with run.outbox.delivering(_metrics_key(plan)):
            forwarder.check()
            run.tracker.finish(round_run_id(run, plan), status)


def log_result(run: Run, plan: RoundPlan, student: Artifact) -> list[PreviewImage]:
    """Log the result of a round: inputs, tags and preview images.

    Returns:
        The preview images.
    """
    pictures = _make_previews(run, plan, student)
    if plan.index == run.recipe.first_round:  # data and teacher are committed by then
        _log_chain_inputs(run)
    with run.outbox.delivering(_result_key(plan)):
        round_id = round_run_id(run, plan, is_training=False)
        run.tracker.log_inputs(round_id, inputs_of_round(run.run_dir, plan, student))
        run.tracker.log_tags(round_id, tags_of_round(run.run_dir, plan, student))
        log_previews(pictures, run.tracker, round_id, plan.sampling_steps)
        if rules_of(run.recipe, plan) is None:
            _log_to_chain(run, plan, pictures)
    return pictures


def log_accepted(run: Run, done: CompletedRound) -> None:
    """Log that a student was accepted: its new path, and its results on the chain's run.

    Only accepted students are logged on the chain's run.

    Raises:
        InfraError: the tracker is unreachable.
    """
    round_id = round_run_id(run, done.accepted, is_training=False)
    run.tracker.log_tags(round_id, tags_of_round(run.run_dir, done.plan, done.student))
    _log_to_chain(run, done.accepted, _make_previews(run, done.accepted, done.student))


def _log_to_chain(run: Run, plan: RoundPlan, pictures: list[PreviewImage]) -> None:
    log_to_chain(pictures, run.recipe, plan, run.tracker, run.chain_id)
    seconds = run.timing.seconds().get(train_step(plan).id)
    is_of_curve = plan.index != TEACHER_ROUND and plan.direction == "decode"
    if seconds is not None and is_of_curve:
        steps = plan.sampling_steps
        name = curve_name("chain/distil_s", is_stochastic=plan.sampler == "stochastic")
        run.tracker.log(run.chain_id, [(name, seconds, steps)])


def log_verdict(run: Run, plan: RoundPlan, text: str, numbers: Mapping[str, float]) -> None:
    """Log a gate verdict, as a tag and as metrics.

    If the tracker fails it is not queued, because the verdict is also an artifact of the run.
    """
    steps = plan.sampling_steps
    try:
        round_id = round_run_id(run, plan, is_training=False)
        run.tracker.log_tags(round_id, {"gate": text})
        run.tracker.log(round_id, [(f"gate/{n}", v, steps) for n, v in numbers.items()])
    except InfraError as error:
        _log.warning("%s: gate verdict not logged: %s", plan.title, error)


def deliver_pending(run: Run, rounds: Sequence[CompletedRound]) -> None:
    """Deliver the pending inputs, metrics and results in the outbox, also of failed attempts.

    Updates of rounds that are no longer in the recipe are dropped; their data stays in the files of
    the round.
    """
    pending = run.outbox.pending()
    if _INPUTS in pending:
        _log_chain_inputs(run)
    attempts = [*_teacher(run), *(each for done in rounds for each in done.attempts)]
    for plan, student in attempts:
        if _metrics_key(plan) in pending:
            with track_round(run, plan, "FINISHED" if student else "FAILED", trains=False):
                pass  # the metrics file is complete
        if student and _result_key(plan) in pending:
            log_result(run, plan, student)
    known = {f"{plan.folder}{suffix}" for plan, _ in attempts for suffix in _SUFFIXES}
    for key in pending:
        if key.endswith(_SUFFIXES) and key not in known:
            _log.warning("%s: dropped the update of a round that is not in the recipe", key)
            run.outbox.drop(key)


def _teacher(run: Run) -> list[Attempt]:
    plan = plan_teacher(run.recipe)
    trained = [each for each in Ledger(run.run_dir).records() if each.path == layout.TEACHER]
    return [(plan, each) for each in trained if plan]


def _log_chain_inputs(run: Run) -> None:
    with run.outbox.delivering(_INPUTS):
        run.tracker.log_inputs(run.chain_id, inputs_of_chain(run.run_dir))


def _make_previews(run: Run, plan: RoundPlan, student: Artifact) -> list[PreviewImage]:
    try:
        return make_previews(run.workspace, plan, student)
    except Exception as error:  # a failed preview must not fail the round
        _log.warning("%s: no preview images: %s", plan.title, error)
        return []


_INPUTS = "origin"

_METRICS, _RESULT, _PROMOTION = _SUFFIXES = ("/metrics", "/result", "/promotion")


def _metrics_key(plan: RoundPlan) -> str:
    return f"{plan.folder}{_METRICS}"


def _result_key(plan: RoundPlan) -> str:
    return f"{plan.folder}{_RESULT}"


def registration_key(plan: RoundPlan) -> str:
    """Return the outbox key of the registration of a round's student."""
    return f"{plan.folder}{_PROMOTION}"
