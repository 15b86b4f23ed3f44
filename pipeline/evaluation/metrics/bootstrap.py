"""Bootstrap confidence intervals."""

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


Estimate = tuple[float, Interval]
"""A measured value and its interval."""


@dataclass(frozen=True)
class Bootstrap:
    """Stratified bootstrap over the rows of a sample set.

    Rows are resampled within their class, because class counts are fixed by design. Classes of
    one sample are pooled into one stratum. The reference of a comparison is not resampled.

    Attributes:
        labels: class of every row.
        resamples: number of resamples.
        seed: seed of the resampling.
    """

    labels: Rows
    resamples: int
    seed: int

    @cached_property
    def rows(self) -> Int64[np.ndarray, "r n"]:
        """Row indices of every resample."""
        random = np.random.default_rng(self.seed)
        drawn = [
            [members[random.integers(0, len(members), len(members))] for members in self._strata]
            for _ in range(self.resamples)
        ]
        return np.stack([np.concatenate(each) for each in drawn])

    @cached_property
    def _strata(self) -> list[Rows]:
        """Groups of rows that are resampled among themselves."""
        classes = [np.flatnonzero(self.labels == label) for label in np.unique(self.labels)]
        singletons = [members for members in classes if len(members) == 1]
        several = [members for members in classes if len(members) > 1]
        return [*several, *([np.concatenate(singletons)] if singletons else [])]

    @property
    def _widening(self) -> float:
        """Correction factor of the spread of resampled values.

        The mean of m rows resampled from m has (m - 1) / m of the variance of a mean of m rows.
        """
        count = len(self.labels)
        return math.sqrt(count / max(1, count - len(self._strata)))

    def of(
        self,
        measure: Callable[[Rows], float],
        *,
        least: float | None = 0.0,
        most: float | None = None,
    ) -> Estimate:
        """Compute a value and its interval.

        Args:
            measure: computes the value of the given rows, which may repeat.
            least: lower bound of the value; None if unbounded.
            most: upper bound of the value; None if unbounded.
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
    ) -> Estimate:
        """Compute the mean of per-sample values, and its interval."""
        value = float(values.mean())
        return value, self.around(value, values[self.rows].mean(axis=1), least, most)

    def around(
        self,
        measured: float,
        values: Float[np.ndarray, "_"],
        least: float | None = 0.0,
        most: float | None = None,
    ) -> Interval:
        """Centre the spread of resampled values on the measured value, clipped to the bounds.

        Resampling adds sampling noise, which raises a distance. Hence the interval is centred on
        the measured value, not on the mean of the resampled values.
        """
        spread = np.quantile(values, [0.025, 0.975]) - values.mean()
        low, high = self._widening * spread + measured
        low = low if least is None else max(least, low)
        high = high if most is None else min(most, high)
        return Interval(low=float(low), high=float(high))
