"""The one training loop of all parts: Adam, its rate annealed to 0, on rows in a seeded order."""

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.data.order import Order
from pipeline.errors import DivergenceError
from pipeline.randomness import RowRandom

_LONGEST_GRADIENT = 1.0
_LINES = 10
_log = logging.getLogger(__name__)

Rows = NDArray[np.int64]
Loss = Callable[[Rows, RowRandom], Tensor]
"""The loss on the samples at some rows, with what is drawn at random for them."""

Tell = Callable[[int], None]
"""Told now and then how many updates are done."""


@dataclass(frozen=True)
class Course:
    """How long and fast a part is trained.

    Attributes:
        updates: how many.
        batch_size: rows of an update.
        rate: of the first update; it falls to 0.
        seed: decides the order and all draws.
    """

    updates: int
    batch_size: int
    rate: float
    seed: int


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Layers made inside are functions of the seed; the process's own generator is not touched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def fit(
    name: str,
    modules: tuple[nn.Module, ...],
    loss_of: Loss,
    count: int,
    course: Course,
    tell: Tell,
) -> None:
    """Train on the CPU; on one machine the same weights every time.

    Args:
        name: of the part, for messages.
        modules: whose parameters are trained; they are left in `eval`.
        loss_of: see `Loss`.
        count: rows there are.
        course: how long and fast.
        tell: see `Tell`.

    Raises:
        DivergenceError: a loss is not finite.
    """
    parameters = [parameter for module in modules for parameter in module.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=course.rate)
    anneal = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 1 / course.updates, course.updates)
    order = Order(course.seed, count)
    for update in range(1, course.updates + 1):
        span = ((update - 1) * course.batch_size, course.batch_size)
        loss = loss_of(order.rows(*span), RowRandom((course.seed,), *span))
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(parameters, _LONGEST_GRADIENT)
        optimiser.step()
        anneal.step()
        if update % max(1, course.updates // _LINES) == 0 or update == course.updates:
            _report(name, update, course.updates, loss.item())
            tell(update)
    for module in modules:
        module.eval()


def _report(name: str, update: int, updates: int, loss: float) -> None:
    # a loss that is not finite stays so, because it spoils the weights: asking now and then will do
    if not math.isfinite(loss):
        raise DivergenceError(
            f"{name}: the loss is {loss} after {update} updates; check the images, or try another "
            "run.seed"
        )
    _log.info("%s: update %d of %d, loss %.4f", name, update, updates, loss)
