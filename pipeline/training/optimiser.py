"""The optimiser of every round: Adam with an exponential moving average of the weights.

The average is part of the optimiser's state per parameter. It is therefore checkpointed with the
moments, and where an engine partitions the float32 weights over ranks (ZeRO), each rank averages
its slice and no rank holds a second full copy.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

_AVERAGE = "average"


class AveragingAdam(torch.optim.AdamW):
    """Adam(0.9, 0.999) without weight decay; after every update average <- d average + (1-d) p.

    The average starts at the weights before the first update, and there is no warm-up of d.

    Args:
        parameters: trained parameters, float32.
        learning_rate: learning rate of the first update.
        ema_decay: d above, in [0, 1); 0 keeps no average.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], *, learning_rate: float, ema_decay: float
    ) -> None:
        # the fused kernel reads every value once; on a CPU it is 3 to 10 times faster than the loop
        super().__init__(
            parameters, lr=learning_rate, betas=(0.9, 0.999), weight_decay=0.0, fused=True
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
