"""When training has gone wrong for good: numbers that are not finite, or a loss beyond all reason.

Adam moves a weight by the learning rate at most, so too large a rate ends in weights that are
useless and finite. The loss says so: it is the error of a velocity of about unit variance, with a
weight of at most 1, so that a network that answers nothing at all has a loss of about 1.
"""

import math

import torch
from torch import Tensor

from pipeline.errors import DivergenceError

HOPELESS = 1000.0
"""A loss so many times that of a network that answers nothing."""

PATIENCE = 10
"""So many updates in a row; a single one may be an outlier of the data."""

ADVICE = "Lower learning_rate and continue with --accept-changes"


class LossWatch:
    """Looks at the loss of every update of a round, the same number on every rank.

    Args:
        title: the round, for errors.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._in_a_row = 0

    def check(self, loss: Tensor, update: int) -> float:
        """The loss as a number.

        Args:
            loss: a scalar, its mean over ranks; all ranks stop together.
            update: which update it is of; not made yet.

        Raises:
            DivergenceError: it is not finite, or has been hopeless for long.
        """
        value = float(loss)
        if not math.isfinite(value):
            raise DivergenceError(
                f"{self._title}: the loss is {value} at update {update}; nothing was updated and "
                f"the last checkpoint is kept. {ADVICE}"
            )
        self._in_a_row = self._in_a_row + 1 if value > HOPELESS else 0
        if self._in_a_row >= PATIENCE:
            raise DivergenceError(
                f"{self._title}: the loss is {value:.3g} at update {update} and has been above "
                f"{HOPELESS:g} for {PATIENCE} updates, where a network that answers nothing has "
                f"about 1: training diverged and was stopped. {ADVICE}"
            )
        return value


def check_finite(weights: dict[str, Tensor], title: str) -> None:
    """Refuse weights that hold NaN or infinity.

    Raises:
        DivergenceError: naming the first such tensor.
    """
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise DivergenceError(f"{title}: weight {name} is not finite; nothing was saved")
