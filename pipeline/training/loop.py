"""The training loop of a round: draw, loss, update, with checkpoints and metrics."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.config.profile import EngineConfig
from pipeline.errors import DivergenceError
from pipeline.methods.method import DistillationMethod, Networks
from pipeline.tracking import Tracker
from pipeline.training.batches import BatchSource
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.engines import TrainEngine
from pipeline.training.monitors import (
    MAX_MEAN_SQUARE,
    DivergenceMonitor,
    StragglerMonitor,
    ThroughputMeter,
)
from pipeline.training.round_plan import RoundPlan

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RoundInputs:
    """The inputs of a training round.

    Attributes:
        plan: plan of the round.
        method: distillation method, which computes the loss.
        networks: the trained network as a denoiser, around the engine's module, and the teacher if
            it is in this process.
        source: batches and targets by position.
    """

    plan: RoundPlan
    method: DistillationMethod
    networks: Networks
    source: BatchSource


def train_round(
    inputs: RoundInputs,
    engine: TrainEngine,
    checkpoints: Checkpoints,
    config: EngineConfig,
    open_tracker: Callable[[int], Tracker],
) -> None:
    """Train to the end of the round, starting from its newest checkpoint if any. Collective.

    The batch of an update depends on its position alone, and on-policy states also on the student
    at that update. Therefore the result is independent of interruptions, and the sample order is
    independent of the number of ranks.

    Args:
        inputs: inputs of the round.
        engine: owns network, optimiser and schedule.
        checkpoints: checkpoints of the round.
        config: intervals of checkpoints and logged metrics, in updates.
        open_tracker: called once with the samples seen so far; returns the tracker (rank 0 only).

    Raises:
        DivergenceError: a loss or gradient is not finite, or the loss diverged; the update is not
            made and the last checkpoint is kept.
    """
    plan = inputs.plan
    batch = plan.training.batch_size
    share = batch // engine.world_size
    start = int(checkpoints.restore(engine).get("update", 0))
    tracker = open_tracker(start * batch) if engine.rank == 0 else None
    watch = DivergenceMonitor(plan.title, inputs.method.loss_at(MAX_MEAN_SQUARE))
    own_time = StragglerMonitor(engine)
    vitals = ThroughputMeter(start, plan.training.updates, batch, engine.device)
    for update in range(start, plan.training.updates):
        with own_time.measured():
            draws, target = inputs.source.at(update * batch + engine.rank * share, share)
            output = inputs.method.step(inputs.networks, draws, target)
        mean_loss = watch.check(engine.mean(output.loss.detach()), update)
        engine.backward(output.loss)
        rate = engine.learning_rate
        norm = _step(engine, plan, update)
        done = update + 1
        is_last = done == plan.training.updates
        if done % config.log_every == 0 or is_last:
            slowest = own_time.slowest()
            means = {name: engine.mean(value) for name, value in output.metrics.items()}
            if tracker:
                values = {
                    "update": float(done),
                    "total_updates": float(plan.training.updates),
                    "train/loss": mean_loss,
                    "train/grad_norm": norm,
                    "train/learning_rate": rate,
                }
                values |= {f"train/{name}": float(value) for name, value in means.items()}
                values |= vitals.of(done) | inputs.source.state(done * batch)
                tracker.log(values | slowest, samples_seen=done * batch)
        if done % config.checkpoint_every == 0 and not is_last:
            if tracker:
                tracker.flush()
            checkpoints.save(engine, done)
    _log.info("%s: %d updates done", plan.title, plan.training.updates)


def _step(engine: TrainEngine, plan: RoundPlan, update: int) -> float:
    try:
        return engine.step()
    except DivergenceError as error:
        raise DivergenceError(f"{plan.title}, update {update}: {error}") from None
