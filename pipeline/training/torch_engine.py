"""The engine in plain torch: one process, no cluster. The reference the other one is held to."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from pipeline.errors import DivergenceError
from pipeline.training.engine import OptimiserPlan, TrainEngine
from pipeline.training.optimiser import AveragingAdam

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
