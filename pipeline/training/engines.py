"""The port between a round and what trains it: plain torch here, DeepSpeed in `infra`."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from pipeline.errors import DivergenceError
from pipeline.training.optimiser import AveragingAdam


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


_FILE = "state.pt"


class TorchEngine(TrainEngine):
    """Train a float32 module where it is.

    Args:
        module: the network; its trainable parameters are updated.
        plan: optimiser and schedule.
    """

    def __init__(self, module: nn.Module, plan: OptimiserPlan) -> None:
        self.module = module
        self.rank = 0
        self.world_size = 1
        self.device = next(module.parameters()).device
        self._plan = plan
        self._trained = [p for p in module.parameters() if p.requires_grad]
        self._optimiser, self._schedule = make_optimiser(self._trained, plan)

    @property
    def layout(self) -> str:
        """Whole, in one process."""
        return "one process"

    def backward(self, loss: Tensor) -> None:
        """Accumulate the gradient."""
        loss.backward()  # type: ignore[no-untyped-call] # torch has no type for it

    def step(self) -> float:
        """Clip, update, advance the learning rate; returns the gradient norm before clipping.

        Raises:
            DivergenceError: the norm is not finite; nothing was updated.
        """
        norm = float(nn.utils.clip_grad_norm_(self._trained, self._plan.clip_norm))
        check_norm(norm)
        self._optimiser.step()
        self._schedule.step()
        self._optimiser.zero_grad()
        return norm

    @property
    def learning_rate(self) -> float:
        """The rate the next update will use."""
        return float(self._schedule.get_last_lr()[0])

    def mean(self, value: Tensor) -> Tensor:
        """The value itself."""
        return value

    def save(self, folder: Path, state: dict[str, Any]) -> None:
        """Write one file."""
        parts = {
            "module": self.module.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "schedule": self._schedule.state_dict(),
            "random": torch.get_rng_state(),
            "state": state,
        }
        torch.save(parts, folder / _FILE)

    def load(self, folder: Path) -> dict[str, Any]:
        """Read it back; tensors and plain values only, no code."""
        parts = torch.load(folder / _FILE, map_location=self.device, weights_only=True)
        self.module.load_state_dict(parts["module"])
        self._optimiser.load_state_dict(parts["optimiser"])
        self._schedule.load_state_dict(parts["schedule"])
        torch.set_rng_state(parts["random"].cpu())
        state: dict[str, Any] = parts["state"]
        return state

    def full_weights(self) -> dict[str, Tensor]:
        """The weights, or their average; the engine must not be used after it."""
        self._optimiser.adopt_average()
        return {name: t.detach().cpu() for name, t in self.module.state_dict().items()}


def make_optimiser(
    parameters: list[nn.Parameter], plan: OptimiserPlan
) -> tuple[AveragingAdam, LambdaLR]:
    """The optimiser of a plan and its schedule: linearly from the full rate to 0."""
    optimiser = AveragingAdam(
        parameters, learning_rate=plan.learning_rate, ema_decay=plan.ema_decay
    )
    return optimiser, LambdaLR(optimiser, lambda update: 1 - update / plan.total_updates)


def check_norm(norm: float) -> None:
    """Refuse a gradient that is not finite.

    Raises:
        DivergenceError: always with the same advice.
    """
    if not norm < float("inf"):
        raise DivergenceError(
            f"the gradient norm is {norm}; nothing was updated and the last checkpoint is kept. "
            "Lower learning_rate and continue with --accept-changes"
        )
