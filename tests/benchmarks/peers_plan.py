"""What both peers are told: the recipe's budget, and the data as two tensors in memory."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

Draw = Callable[[Tensor, Tensor, float, int], Tensor]
"""Samples from (noise z_1, labels, guidance weight, steps)."""


@dataclass(frozen=True)
class Budget:
    """How long and on what a peer trains, the same for all.

    Attributes:
        x: training images `[n, c, h, w]` in [-1, 1].
        labels: their classes, int64 `[n]`.
        null: the label that stands for no class.
        stage_one: updates for guidance.
        halvings: (steps of the teacher, steps of the student, updates) of every round.
        batch: samples of an update.
        learning_rate: of the first update; annealed linearly to 0.
        w_max: guidance weights are uniform on [0, w_max].
        mass_at_zero: share of them that is exactly 0.
        seed: of everything random.
    """

    x: Tensor
    labels: Tensor
    null: int
    stage_one: int
    halvings: tuple[tuple[int, int, int], ...]
    batch: int
    learning_rate: float
    w_max: float
    mass_at_zero: float
    seed: int

    @property
    def updates(self) -> int:
        """All of them together."""
        return self.stage_one + sum(updates for _, _, updates in self.halvings)
