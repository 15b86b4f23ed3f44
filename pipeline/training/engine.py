"""The port between a round and what trains it: plain torch here, DeepSpeed in `infra`."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class OptimiserPlan:
    """Adam(0.9, 0.999) without weight decay, its rate annealed linearly to 0 over the round.

    Attributes:
        learning_rate: the rate of the first update.
        total_updates: updates of the round; the rate of update u (from 0) is
            `learning_rate * (1 - u / total_updates)`.
        clip_norm: global gradient norm is clipped to it.
        ema_decay: decay of an exponential moving average of the float32 weights, 0 for none.
    """

    learning_rate: float
    total_updates: int
    clip_norm: float
    ema_decay: float = 0.0


class TrainEngine(ABC):
    """One trained network, its optimiser and its learning-rate schedule, on any number of ranks.

    Attributes:
        module: what to call for a forward pass.
        rank: this process, 0 .. world_size - 1.
        world_size: number of processes.
        device: where batches go.
    """

    module: nn.Module
    rank: int
    world_size: int
    device: torch.device

    @property
    @abstractmethod
    def layout(self) -> str:
        """How the state is divided; a checkpoint loads only into the layout it was saved from."""

    @abstractmethod
    def backward(self, loss: Tensor) -> None:
        """Accumulate the gradient of this rank's mean loss; ranks are averaged."""

    @abstractmethod
    def step(self) -> float:
        """Clip, update, advance the learning rate; returns the gradient norm before clipping."""

    @property
    @abstractmethod
    def learning_rate(self) -> float:
        """The rate the next update will use."""

    @abstractmethod
    def mean(self, value: Tensor) -> Tensor:
        """The mean over ranks of a tensor, element by element; collective."""

    @abstractmethod
    def save(self, folder: Path, state: dict[str, Any]) -> None:
        """Write a checkpoint (collective): network, optimiser, schedule, average, and `state`."""

    @abstractmethod
    def load(self, folder: Path) -> dict[str, Any]:
        """Restore what `save` wrote, bit for bit (collective); returns its `state`."""

    @abstractmethod
    def full_weights(self) -> dict[str, Tensor]:
        """The float32 master weights and buffers by name, on the CPU (collective).

        If the optimiser keeps an average, it is the average. Complete on rank 0 only.
        """
