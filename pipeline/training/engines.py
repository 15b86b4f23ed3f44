"""Training engines: the interface and the torch engine; DeepSpeed's is in `infra`."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import DivergenceError
from pipeline.training.ema_optimiser import OptimiserPlan, make_optimiser


class TrainEngine(ABC):
    """One trained network, its optimiser and its learning-rate schedule, on any number of ranks.

    Attributes:
        module: the module for forward passes.
        rank: rank of this process, 0 .. world_size - 1.
        world_size: number of processes.
        device: device of the batches.
    """

    module: nn.Module
    rank: int
    world_size: int
    device: torch.device

    @property
    @abstractmethod
    def layout(self) -> str:
        """Partitioning of the state; a checkpoint loads only into the layout it was saved from."""

    @abstractmethod
    def backward(self, loss: Tensor) -> None:
        """Accumulate the gradient of this rank's mean loss, averaged over ranks."""

    @abstractmethod
    def step(self) -> float:
        """Clip, update, advance the learning rate; return the gradient norm before clipping."""

    @property
    @abstractmethod
    def learning_rate(self) -> float:
        """Learning rate of the next update."""

    @abstractmethod
    def mean(self, value: Tensor) -> Tensor:
        """Compute the elementwise mean of a tensor over ranks; collective."""

    @abstractmethod
    def save(self, folder: Path, state: dict[str, Any]) -> None:
        """Write a checkpoint (collective): network, optimiser, schedule, average, and `state`."""

    @abstractmethod
    def load(self, folder: Path) -> dict[str, Any]:
        """Restore a checkpoint of `save` bit for bit (collective); return its `state`."""

    @abstractmethod
    def full_weights(self) -> dict[str, Tensor]:
        """Return the float32 master weights and buffers by name, on the CPU (collective).

        If the optimiser keeps an average, its values are returned. Complete on rank 0 only.
        """


_FILE = "state.pt"


class TorchEngine(TrainEngine):
    """Train a float32 module in this process, on its current device.

    The reference implementation; DeepSpeedEngine is tested against it.
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
        """Unpartitioned, in one process."""
        return "one process"

    def backward(self, loss: Tensor) -> None:
        """Accumulate the gradient."""
        loss.backward()  # type: ignore[no-untyped-call] # untyped in torch

    def step(self) -> float:
        """Clip, update, advance the learning rate; return the gradient norm before clipping.

        Raises:
            DivergenceError: the norm is not finite; no weight was updated.
        """
        norm = float(nn.utils.clip_grad_norm_(self._trained, self._plan.clip_norm))
        check_norm(norm)
        self._optimiser.step()
        self._schedule.step()
        self._optimiser.zero_grad()
        return norm

    @property
    def learning_rate(self) -> float:
        """Learning rate of the next update."""
        return float(self._schedule.get_last_lr()[0])

    def mean(self, value: Tensor) -> Tensor:
        """Return the value unchanged."""
        return value

    def save(self, folder: Path, state: dict[str, Any]) -> None:
        """Write the checkpoint as one file."""
        parts = {
            "module": self.module.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "schedule": self._schedule.state_dict(),
            "random": torch.get_rng_state(),
            "state": state,
        }
        torch.save(parts, folder / _FILE)

    def load(self, folder: Path) -> dict[str, Any]:
        """Load the file; only tensors and plain values are unpickled, no code."""
        parts = torch.load(folder / _FILE, map_location=self.device, weights_only=True)
        self.module.load_state_dict(parts["module"])
        self._optimiser.load_state_dict(parts["optimiser"])
        self._schedule.load_state_dict(parts["schedule"])
        torch.set_rng_state(parts["random"].cpu())
        state: dict[str, Any] = parts["state"]
        return state

    def full_weights(self) -> dict[str, Tensor]:
        """Return the weights, or their average; the engine must not be used afterwards."""
        self._optimiser.adopt_average()
        return {name: t.detach().cpu() for name, t in self.module.state_dict().items()}


def check_norm(norm: float) -> None:
    """Check that a gradient norm is finite.

    Raises:
        DivergenceError: the norm is not finite.
    """
    if not norm < float("inf"):
        raise DivergenceError(
            f"the gradient norm is {norm}; no weight was updated and the last checkpoint is kept. "
            "Lower learning_rate and continue with --accept-changes"
        )
