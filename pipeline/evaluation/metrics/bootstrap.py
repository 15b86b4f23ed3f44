"""How sure a number is: samples are drawn anew from themselves, and it is measured again."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int64

Rows = Int64[np.ndarray, "_"]


@dataclass(frozen=True)
class Interval:
    """A 95 % interval around a measured value."""

    low: float
    high: float


Found = tuple[float, Interval]
"""A measured value and its interval."""


@dataclass(frozen=True)
class Bootstrap:
    """How rows of a set of samples are drawn anew.

    They are resampled within their class, because the numbers of samples a class were not left to
    chance; classes of one sample, in which there is nothing to draw from, are one class together.
    Whatever samples are compared with is held fixed.

    Attributes:
        labels: the class of every row.
        resamples: how often rows are drawn anew.
        seed: of the draws.
    """

    labels: Rows
    resamples: int
    seed: int

    @cached_property
    def rows(self) -> Int64[np.ndarray, "r n"]:
        """As many rows as there are labels, drawn `resamples` times; they may repeat."""
        random = np.random.default_rng(self.seed)
        drawn = [
            [members[random.integers(0, len(members), len(members))] for members in self._strata]
            for _ in range(self.resamples)
        ]
        return np.stack([np.concatenate(each) for each in drawn])

    @cached_property
    def _strata(self) -> list[Rows]:
        """Within which rows are drawn anew."""
        classes = [np.flatnonzero(self.labels == label) for label in np.unique(self.labels)]
        alone = [members for members in classes if len(members) == 1]
        several = [members for members in classes if len(members) > 1]
        return [*several, *([np.concatenate(alone)] if alone else [])]

    @property
    def _widening(self) -> float:
        """By how much the spread of resampled values falls short.

        Drawn from m rows, their mean varies (m - 1) / m as much as a mean of m rows does.
        """
        count = len(self.labels)
        return math.sqrt(count / max(1, count - len(self._strata)))

    def of(
        self,
        measure: Callable[[Rows], float],
        *,
        least: float | None = 0.0,
        most: float | None = None,
    ) -> Found:
        """The measured value and its interval.

        Args:
            measure: the value of the rows it is given, which may repeat.
            least: no value is below it; None where values have no bound.
            most: no value is above it.
        """
        value = measure(np.arange(len(self.labels)))
        values = np.array([measure(rows) for rows in self.rows])
        return value, self.around(value, values, least, most)

    def mean(
        self,
        values: Float[np.ndarray, "_"],
        *,
        least: float | None = 0.0,
        most: float | None = None,
    ) -> Found:
        """The mean of one value a sample, and its interval."""
        value = float(values.mean())
        return value, self.around(value, values[self.rows].mean(axis=1), least, most)

    def around(
        self,
        measured: float,
        values: Float[np.ndarray, "_"],
        least: float | None = 0.0,
        most: float | None = None,
    ) -> Interval:
        """The spread of resampled values around the measured one, cut off at `least` and `most`.

        Resampling adds sampling noise, which raises a distance; so the spread is put around the
        measured value, not around the resampled values' own mean.
        """
        spread = np.quantile(values, [0.025, 0.975]) - values.mean()
        low, high = self._widening * spread + measured
        low = low if least is None else max(least, low)
        high = high if most is None else min(most, high)
        return Interval(low=float(low), high=float(high))
