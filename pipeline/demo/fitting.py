"""The training loop of all demo components: Adam, learning rate annealed to 0, seeded order."""

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.data.training_data import Order
from pipeline.errors import DivergenceError
from pipeline.randomness import RowRandom

_MAX_GRADIENT_NORM = 1.0
_REPORTS = 10
_log = logging.getLogger(__name__)

Rows = NDArray[np.int64]
Loss = Callable[[Rows, RowRandom], Tensor]
"""Compute the loss of the samples at the given rows, with their random stream."""

ProgressCallback = Callable[[int], None]
"""Progress callback, called periodically with the number of updates done."""


@dataclass(frozen=True)
class Hyperparameters:
    """Hyper-parameters of training one component.

    Attributes:
        updates: number of updates.
        batch_size: rows per update.
        rate: learning rate of the first update; annealed to 0.
        seed: seed of the sample order and all random numbers.
    """

    updates: int
    batch_size: int
    rate: float
    seed: int


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch inside the block; the process's generator is restored afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def fit(
    name: str,
    modules: tuple[nn.Module, ...],
    loss_of: Loss,
    count: int,
    settings: Hyperparameters,
    progress: ProgressCallback,
) -> None:
    """Train `modules` on the CPU and leave them in `eval` mode; deterministic on one machine.

    Raises:
        DivergenceError: a loss is not finite.
    """
    parameters = [parameter for module in modules for parameter in module.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=settings.rate)
    updates = settings.updates
    anneal = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 1 / updates, updates)
    order = Order(settings.seed, count)
    for update in range(1, updates + 1):
        span = ((update - 1) * settings.batch_size, settings.batch_size)
        loss = loss_of(order.rows(*span), RowRandom((settings.seed,), *span))
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(parameters, _MAX_GRADIENT_NORM)
        optimiser.step()
        anneal.step()
        if update % max(1, updates // _REPORTS) == 0 or update == updates:
            _report(name, update, updates, loss.item())
            progress(update)
    for module in modules:
        module.eval()


def _report(name: str, update: int, updates: int, loss: float) -> None:
    # a non-finite loss makes the weights non-finite, so a periodic check is enough
    if not math.isfinite(loss):
        raise DivergenceError(
            f"{name}: the loss is {loss} after {update} updates; check the images, or try another "
            "run.seed"
        )
    _log.info("%s: update %d of %d, loss %.4f", name, update, updates, loss)
