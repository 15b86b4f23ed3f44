"""One round of training: draw, predict, compare, update; checkpoints and numbers on the way."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.errors import DivergenceError
from pipeline.methods.method import DistillationMethod
from pipeline.models.denoiser import Denoiser
from pipeline.tracking import Tracker
from pipeline.training.batches import DrawSource
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.engines import TrainEngine
from pipeline.training.monitors import LossWatch, OwnTime, Vitals
from pipeline.training.round_plan import RoundPlan

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rhythm:
    """What happens every so many updates."""

    checkpoint_every: int
    log_every: int


@dataclass(frozen=True)
class Lesson:
    """What is learnt, by whom, from what.

    Attributes:
        plan: the round.
        method: gives the loss.
        student: the trained network as a denoiser, around the engine's module.
        source: draws and targets by position.
    """

    plan: RoundPlan
    method: DistillationMethod
    student: Denoiser
    source: DrawSource


def train_round(
    lesson: Lesson,
    engine: TrainEngine,
    checkpoints: Checkpoints,
    rhythm: Rhythm,
    open_tracker: Callable[[int], Tracker],
) -> None:
    """Train to the end of the round, from its newest checkpoint if there is one. Collective.

    The draws of an update depend on its position, on-policy states also on the student as it then
    is, so the result does not depend on where it was interrupted, and the order of samples does
    not depend on the number of ranks.

    Args:
        lesson: what is learnt, by whom, from what.
        engine: owns optimiser and schedule.
        checkpoints: where state is kept.
        rhythm: how often to save and log.
        open_tracker: called once with the samples seen so far; numbers go there (rank 0 only).

    Raises:
        DivergenceError: a loss or gradient is not finite, or the loss is hopeless; the update is
            not made and the last checkpoint stays.
    """
    plan = lesson.plan
    batch = plan.training.batch_size
    share = batch // engine.world_size
    start = int(checkpoints.restore(engine).get("update", 0))
    tracker = open_tracker(start * batch) if engine.rank == 0 else None
    watch = LossWatch(plan.title)
    own_time = OwnTime(engine)
    vitals = Vitals(start, plan.training.updates, batch, engine.device)
    for update in range(start, plan.training.updates):
        with own_time.measured():
            draws, target = lesson.source.at(update * batch + engine.rank * share, share)
            loss = lesson.method.loss(lesson.student, draws, target)
        mean_loss = watch.check(engine.mean(loss.detach()), update)
        engine.backward(loss)
        rate = engine.learning_rate
        norm = _step(engine, plan, update)
        done = update + 1
        is_last = done == plan.training.updates
        if done % rhythm.log_every == 0 or is_last:
            slowest = own_time.slowest()
            if tracker:
                values = {
                    "update": float(done),
                    "total_updates": float(plan.training.updates),
                    "train/loss": mean_loss,
                    "train/grad_norm": norm,
                    "train/learning_rate": rate,
                }
                values |= vitals.of(done) | lesson.source.state(done * batch)
                tracker.log(values | slowest, samples_seen=done * batch)
        if done % rhythm.checkpoint_every == 0 and not is_last:
            if tracker:
                tracker.settle()
            checkpoints.save(engine, done)
    _log.info("%s: %d updates done", plan.title, plan.training.updates)


def _step(engine: TrainEngine, plan: RoundPlan, update: int) -> float:
    try:
        return engine.step()
    except DivergenceError as error:
        raise DivergenceError(f"{plan.title}, update {update}: {error}") from None
