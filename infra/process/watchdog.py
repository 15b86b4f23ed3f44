"""Watchdog that ends a process waiting for a hanging peer.

A collective with a hanging peer blocks for half an hour: to Ray the processes are alive, and
DeepSpeed's groups have no timeout option. A C-level timer, rearmed by every update, needs no Python
thread and fires even while Python waits inside gloo or NCCL.
"""

import faulthandler
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from torch import Tensor

from pipeline.training.engines import TrainEngine

_SHORTEST_S = 60.0

_UNKNOWN_S = 600.0

_FACTOR = 20.0
_REARM_S = 1.0  # arming starts a thread, which takes about 1 % of a small update


class Watchdog:
    """Dump all stacks to stderr and exit if an update takes far longer than all before.

    Use it as a context manager; at its end the timer is disarmed. The timer is the process's only
    one, so a watchdog belongs to what owns the process: a worker has one, however many engines.

    Args:
        world_size: number of processes; a single one has no peer to wait for and is not watched.
    """

    def __init__(self, world_size: int) -> None:
        self._active = world_size > 1
        self._longest = 0.0
        self._last: float | None = None
        self._armed = 0.0

    def __enter__(self) -> "Watchdog":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def updated(self) -> None:
        """Record a completed update; the next may take 20 times the longest, at least 60 s.

        The timer is set at most once a second, so it may fire up to a second early.
        """
        now = time.monotonic()
        if self._last is not None:
            self._longest = max(self._longest, now - self._last)
        patience = max(_SHORTEST_S, _FACTOR * self._longest) if self._longest else _UNKNOWN_S
        self._last = now
        if now - self._armed >= _REARM_S:
            self._arm(patience)

    def paused(self) -> None:
        """Record the start of other work than an update, such as a checkpoint."""
        self._last = None
        self._arm(_UNKNOWN_S)

    def stop(self) -> None:
        """Disarm the timer; no collective operation follows."""
        if self._active:
            faulthandler.cancel_dump_traceback_later()

    def _arm(self, patience: float) -> None:
        self._armed = time.monotonic()
        if self._active:
            faulthandler.dump_traceback_later(patience, exit=True)


class WatchedEngine(TrainEngine):
    """Wrapper of an engine that reports each call to the worker's watchdog."""

    def __init__(self, engine: TrainEngine, watchdog: Watchdog) -> None:
        self._engine = engine
        self._watchdog = watchdog
        self.module = engine.module
        self.rank = engine.rank
        self.world_size = engine.world_size
        self.device = engine.device

    @property
    def layout(self) -> str:
        """Partitioning of the state."""
        return self._engine.layout

    def backward(self, loss: Tensor) -> None:
        """Accumulate the gradient."""
        self._engine.backward(loss)

    def step(self) -> float:
        """Update, and rearm the timer for the next update."""
        norm = self._engine.step()
        self._watchdog.updated()
        return norm

    @property
    def learning_rate(self) -> float:
        """Learning rate of the next update."""
        return self._engine.learning_rate

    def mean(self, value: Tensor) -> Tensor:
        """Compute the mean over ranks."""
        return self._engine.mean(value)

    def save(self, folder: Path, state: dict[str, Any]) -> None:
        """Write a checkpoint, which may take longer than an update."""
        self._watchdog.paused()
        self._engine.save(folder, state)

    def load(self, folder: Path) -> dict[str, Any]:
        """Restore a checkpoint, which may take longer than an update."""
        self._watchdog.paused()
        return self._engine.load(folder)

    def full_weights(self) -> dict[str, Tensor]:
        """Collect the weights; there are no updates after this."""
        self._watchdog.stop()
        return self._engine.full_weights()
