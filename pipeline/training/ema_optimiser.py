"""The optimiser of every round: AdamW with an exponential moving average of the weights.

The average is part of the optimiser's state per parameter. It is therefore checkpointed with the
moments, and where an engine partitions the float32 weights over ranks (ZeRO), each rank averages
its slice and no rank holds a second full copy.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

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
        betas: decay rates of the moving averages of the gradient and of its square.
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
    """AdamW and its learning-rate schedule over a round.

    Attributes:
        learning_rate: peak learning rate.
        total_updates: updates of the round.
        clip_norm: maximum global gradient norm.
        ema_decay: decay of an exponential moving average of the float32 weights; 0 for none.
        betas: decay rates of the moving averages of the gradient and of its square.
        weight_decay: decoupled weight decay.
        schedule: schedule after the warm-up.
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
