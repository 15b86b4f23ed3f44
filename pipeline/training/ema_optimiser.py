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

_SUM = "weights_sum"


class AveragingAdam(torch.optim.AdamW):
    """AdamW with an average of the weights after each update, which forgets the start.

    After every update sum <- d sum + (1-d) p, from zero; the average is sum / (1 - d^U) after U
    updates, as Adam corrects its moments. So the weights before the first update have no part in
    it, however short the training: a sum that started from them would keep the fraction d^U of
    them (86 % after 1,500 updates at d = .9999). In a teacher these are random numbers, and in a
    student those of its own teacher, which is not conditioned on w or takes shorter steps.

    The sum is part of the optimiser's state per parameter, so it is checkpointed with the moments,
    and where an engine partitions the float32 weights over ranks (ZeRO), each rank averages its
    slice only.

    Source: Kingma & Ba 2014, arXiv:1412.6980, section 3 (the correction) and 7.2 (of weights).

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
        result = super().step(closure)
        if self._decay and updated:
            # only after the step: AdamW does not initialise a state that is not empty
            sums = [self.state[p].setdefault(_SUM, torch.zeros_like(p)) for p in updated]
            torch._foreach_lerp_(sums, updated, 1 - self._decay)
        return result

    @torch.no_grad()
    def adopt_average(self) -> None:
        """Overwrite the parameters by their average for export; training must end here."""
        for parameter, state in self.state.items():
            if _SUM in state:
                total: Tensor = state[_SUM]
                parameter.copy_(total / -math.expm1(float(state["step"]) * math.log(self._decay)))


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
