"""Monitors of a training round: divergence, straggling workers, throughput and memory.

Adam changes a weight by at most the learning rate per update, so too high a rate gives weights that
are finite but useless. The loss shows this: targets are velocities of about unit variance and loss
weights are at most 1, so the zero-prediction baseline has a mean squared error of about 1.
"""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch
from torch import Tensor

from pipeline.errors import DivergenceError
from pipeline.training.engines import TrainEngine

MAX_MEAN_SQUARE = 1000.0
"""Mean squared error above which training counts as diverged."""

PATIENCE = 10
"""Consecutive updates above the limit before training stops; single ones may be outliers."""

_ADVICE = "Lower learning_rate and continue with --accept-changes"


class DivergenceMonitor:
    """Check the loss of every update for divergence; the loss is equal on all ranks.

    Args:
        title: title of the round, for messages.
        limit: the method's loss at a mean squared error of `MAX_MEAN_SQUARE`.
    """

    def __init__(self, title: str, limit: float) -> None:
        self._title = title
        self._limit = limit
        self._in_a_row = 0

    def check(self, loss: Tensor, update: int) -> float:
        """Check the loss and return it as a float.

        Args:
            loss: scalar mean loss over ranks, so that all ranks stop together.
            update: index of the update that this loss is for, not made yet.

        Raises:
            DivergenceError: the loss is not finite, or was above the limit for `PATIENCE` updates.
        """
        value = float(loss)
        if not math.isfinite(value):
            raise DivergenceError(
                f"{self._title}: the loss is {value} at update {update}; no weight was updated and "
                f"the last checkpoint is kept. {_ADVICE}"
            )
        self._in_a_row = self._in_a_row + 1 if value > self._limit else 0
        if self._in_a_row >= PATIENCE:
            raise DivergenceError(
                f"{self._title}: training diverged at update {update}: the loss is {value:.3g} and "
                f"was above {self._limit:.3g} for {PATIENCE} updates, that of a mean squared error "
                f"of {MAX_MEAN_SQUARE:g}. {_ADVICE}"
            )
        return value


def check_finite(weights: dict[str, Tensor], title: str) -> None:
    """Check that all weights are finite.

    Raises:
        DivergenceError: a tensor has NaN or infinity; the message names the first one.
    """
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise DivergenceError(
                f"{title}: weight {name} is not finite, so the student was not saved. {_ADVICE}"
            )


class StragglerMonitor:
    """Measure each rank's compute time, without waiting for others, to find stragglers."""

    def __init__(self, engine: TrainEngine) -> None:
        self._engine = engine
        self._seconds = 0.0

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Add the block's duration to this rank's time.

        If the forward pass itself waits for other ranks (ZeRO 3, a partitioned teacher), a slow
        worker's delay is underestimated.
        """
        began = time.monotonic()
        yield
        if self._engine.device.type == "cuda":  # costs nothing: the loss is read right after
            torch.cuda.synchronize(self._engine.device)
        self._seconds += time.monotonic() - began

    def slowest(self) -> dict[str, float]:
        """Find the slowest worker since the last call. Collective.

        Returns:
            `time/slowest_worker`, its rank, and `time/slowest_ratio`, its time over the median of
            the others' times; empty with a single worker.
        """
        ranks = self._engine.world_size
        if ranks == 1:
            return {}
        seconds = torch.zeros(ranks, dtype=torch.float64, device=self._engine.device)
        seconds[self._engine.rank] = self._seconds
        self._seconds = 0.0
        all_seconds = self._engine.mean(seconds).cpu() * ranks
        worker = int(all_seconds.argmax())
        others = torch.cat([all_seconds[:worker], all_seconds[worker + 1 :]])
        ratio = float(all_seconds[worker] / others.median().clamp(min=1e-9))
        return {"time/slowest_worker": float(worker), "time/slowest_ratio": ratio}


_GIB = 2**30


class ThroughputMeter:
    """Throughput and memory of the first worker since the last call."""

    def __init__(self, start: int, total: int, batch: int, device: torch.device) -> None:
        self._total = total
        self._batch = batch
        self._device = device
        self._process = psutil.Process()
        self._last = (start, time.monotonic())

    def of(self, done: int) -> dict[str, float]:
        """Compute updates and samples per second, seconds left at this rate, and GiB in use.

        `memory/worker_gib` is the process's resident memory, `memory/gpu_gib` the peak memory of
        its tensors on the GPU.
        """
        before, since = self._last
        self._last = (done, time.monotonic())
        rate = (done - before) / max(self._last[1] - since, 1e-9)
        numbers = {
            "time/updates_per_s": rate,
            "time/samples_per_s": rate * self._batch,
            "time/seconds_left": (self._total - done) / rate,
            "memory/worker_gib": self._process.memory_info().rss / _GIB,
        }
        if self._device.type == "cuda":
            numbers["memory/gpu_gib"] = torch.cuda.max_memory_allocated(self._device) / _GIB
        return numbers
