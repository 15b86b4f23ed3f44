"""When training has gone wrong for good: numbers that are not finite, or a loss beyond all reason.

Adam moves a weight by the learning rate at most, so too large a rate ends in weights that are
useless and finite. The loss says so: it is the error of a velocity of about unit variance, with a
weight of at most 1, so that a network that answers nothing at all has a loss of about 1.
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

HOPELESS = 1000.0
"""A loss so many times that of a network that answers nothing."""

PATIENCE = 10
"""So many updates in a row; a single one may be an outlier of the data."""

ADVICE = "Lower learning_rate and continue with --accept-changes"


class LossWatch:
    """Looks at the loss of every update of a round, the same number on every rank.

    Args:
        title: the round, for errors.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._in_a_row = 0

    def check(self, loss: Tensor, update: int) -> float:
        """The loss as a number.

        Args:
            loss: a scalar, its mean over ranks; all ranks stop together.
            update: which update it is of; not made yet.

        Raises:
            DivergenceError: it is not finite, or has been hopeless for long.
        """
        value = float(loss)
        if not math.isfinite(value):
            raise DivergenceError(
                f"{self._title}: the loss is {value} at update {update}; nothing was updated and "
                f"the last checkpoint is kept. {ADVICE}"
            )
        self._in_a_row = self._in_a_row + 1 if value > HOPELESS else 0
        if self._in_a_row >= PATIENCE:
            raise DivergenceError(
                f"{self._title}: the loss is {value:.3g} at update {update} and has been above "
                f"{HOPELESS:g} for {PATIENCE} updates, where a network that answers nothing has "
                f"about 1: training diverged and was stopped. {ADVICE}"
            )
        return value


def check_finite(weights: dict[str, Tensor], title: str) -> None:
    """Refuse weights that hold NaN or infinity.

    Raises:
        DivergenceError: naming the first such tensor.
    """
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise DivergenceError(f"{title}: weight {name} is not finite; nothing was saved")


class OwnTime:
    """Seconds that this rank spends on its own share of the work, without waiting for others."""

    def __init__(self, engine: TrainEngine) -> None:
        self._engine = engine
        self._seconds = 0.0

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Count the time of the block.

        Where the forward pass itself waits for others (ZeRO 3, a split teacher), a slow worker
        shows less than it is.
        """
        began = time.monotonic()
        yield
        if self._engine.device.type == "cuda":  # the loss is read right after, so nothing is lost
            torch.cuda.synchronize(self._engine.device)
        self._seconds += time.monotonic() - began

    def slowest(self) -> dict[str, float]:
        """Which worker took longest since the last call, and how long. Collective.

        Returns:
            `time/slowest_worker`, its rank, and `time/slowest_ratio`, its seconds over the median
            of the others'; empty where there is one worker only.
        """
        ranks = self._engine.world_size
        if ranks == 1:
            return {}
        mine = torch.zeros(ranks, dtype=torch.float64, device=self._engine.device)
        mine[self._engine.rank] = self._seconds
        self._seconds = 0.0
        all_seconds = self._engine.mean(mine).cpu() * ranks
        worker = int(all_seconds.argmax())
        others = torch.cat([all_seconds[:worker], all_seconds[worker + 1 :]])
        ratio = float(all_seconds[worker] / others.median().clamp(min=1e-9))
        return {"time/slowest_worker": float(worker), "time/slowest_ratio": ratio}


_GIB = 2**30


class Vitals:
    """Numbers of the first worker since the last time they were asked for.

    Args:
        start: updates done when it is made.
        total: updates of the round.
        batch: samples of an update.
        device: where the network is.
    """

    def __init__(self, start: int, total: int, batch: int, device: torch.device) -> None:
        self._total = total
        self._batch = batch
        self._device = device
        self._process = psutil.Process()
        self._last = (start, time.monotonic())

    def of(self, done: int) -> dict[str, float]:
        """Updates and samples a second, seconds to the end at that rate, GiB held by now.

        `memory/worker_gib` is what the process holds in memory, `memory/gpu_gib` the most that its
        tensors have had on the GPU.
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
