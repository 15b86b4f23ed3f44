"""An engine whose worker is ended if an update hangs."""

from pathlib import Path
from typing import Any

from torch import Tensor

from infra.watchdog import Watchdog
from pipeline.training.engine import TrainEngine


class WatchedEngine(TrainEngine):
    """Another engine, which reports to the worker's watchdog what it does."""

    def __init__(self, engine: TrainEngine, watchdog: Watchdog) -> None:
        self._engine = engine
        self._watchdog = watchdog
        self.module = engine.module
        self.rank = engine.rank
        self.world_size = engine.world_size
        self.device = engine.device

    @property
    def layout(self) -> str:
        """That of the engine."""
        return self._engine.layout

    def backward(self, loss: Tensor) -> None:
        """Accumulate the gradient."""
        self._engine.backward(loss)

    def step(self) -> float:
        """Update, and allow the next update its time."""
        norm = self._engine.step()
        self._watchdog.updated()
        return norm

    @property
    def learning_rate(self) -> float:
        """That of the engine."""
        return self._engine.learning_rate

    def mean(self, value: Tensor) -> Tensor:
        """The mean over ranks."""
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
