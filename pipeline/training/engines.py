"""Optimiser and training engines: the interface and the torch engine; DeepSpeed's is in `infra`."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from pipeline.errors import DivergenceError

_AVERAGE = "average"


class AveragingAdam(torch.optim.AdamW):
    """AdamW; after every update average <- d average + (1-d) p.

    The average starts at the weights before the first update, and there is no warm-up of d. It is
    part of the optimiser's state per parameter, so it is checkpointed with the moments, and where
    an engine partitions the float32 weights over ranks (ZeRO), each rank averages its slice only.

    Args:
        parameters: trained parameters, float32.
        learning_rate: learning rate of the first update.
        ema_decay: d above, in [0, 1); 0 keeps no average.
        betas: decay of the averages of the gradient and of its square.
        weight_decay: decoupled weight decay.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        learning_rate: float,
        ema_decay: float,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
    ) -> None:
        # the fused kernel reads every value once; on a CPU it is 3 to 10 times faster than the loop
        super().__init__(
            parameters, lr=learning_rate, betas=betas, weight_decay=weight_decay, fused=True
        )
        self._decay = ema_decay

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update, then average."""
        updated = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        first = {p: p.clone() for p in updated if self._decay and _AVERAGE not in self.state[p]}
        result = super().step(closure)
        for parameter, start in first.items():
            # only after the step: AdamW does not initialise a state that is not empty
            self.state[parameter][_AVERAGE] = start
        if self._decay and updated:
            averages = [self.state[p][_AVERAGE] for p in updated]
            torch._foreach_lerp_(averages, updated, 1 - self._decay)
        return result

    @torch.no_grad()
    def adopt_average(self) -> None:
        """Overwrite the parameters by their average for export; training must end here."""
        for parameter, state in self.state.items():
            if _AVERAGE in state:
                average: Tensor = state[_AVERAGE]
                parameter.copy_(average)


@dataclass(frozen=True)
class OptimiserPlan:
    """AdamW and the course of its learning rate over a round.

    Attributes:
        learning_rate: highest learning rate.
        total_updates: updates of the round.
        clip_norm: maximum global gradient norm.
        ema_decay: decay of an exponential moving average of the float32 weights; 0 for none.
        betas: decay of the averages of the gradient and of its square.
        weight_decay: decoupled weight decay.
        schedule: course after the warm-up.
        warmup: updates in which the rate rises linearly.
    """

    learning_rate: float
    total_updates: int
    clip_norm: float
    ema_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup: int = 0

    def factor(self, update: int) -> float:
        """Compute the factor on the learning rate of an update, counted from 0.

        After `warmup` updates `linear` falls to 0 at `total_updates`: without a warm-up the factor
        is 1 - u / total_updates.
        """
        if update < self.warmup:
            return (update + 1) / (self.warmup + 1)
        done = (update - self.warmup) / (self.total_updates - self.warmup)
        match self.schedule:
            case "linear":
                return 1 - done
            case "cosine":
                return (1 + math.cos(math.pi * done)) / 2
            case "constant":
                return 1.0


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


def make_optimiser(
    parameters: list[nn.Parameter], plan: OptimiserPlan
) -> tuple[AveragingAdam, LambdaLR]:
    """Build the optimiser of a plan and its learning-rate schedule."""
    optimiser = AveragingAdam(
        parameters,
        learning_rate=plan.learning_rate,
        ema_decay=plan.ema_decay,
        betas=plan.betas,
        weight_decay=plan.weight_decay,
    )
    # a function, because a checkpoint would pickle the attributes of a bound method
    return optimiser, LambdaLR(optimiser, lambda update: plan.factor(update))  # noqa: PLW0108


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
