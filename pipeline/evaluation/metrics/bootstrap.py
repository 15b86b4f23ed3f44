"""Confidence intervals of means and shares, exact, and of other statistics by a bootstrap."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int64
from scipy.special import stdtrit  # type: ignore[import-untyped] # it has no stubs

Rows = Int64[np.ndarray, "_"]

_Z = 1.959964  # 97.5 % quantile of the normal distribution


@dataclass(frozen=True)
class Interval:
    """A 95 % interval around a measured value."""

    low: float
    high: float


Estimate = tuple[float, Interval]
"""A measured value and its interval."""


@dataclass(frozen=True)
class Bootstrap:
    """Intervals by classes of the rows of a sample set; a bootstrap where none is exact.

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
        """Compute the mean of per-sample values, and its interval, without resampling."""
        count, value = len(values), float(values.mean())
        parts = [values[members] for members in self._strata]
        parts = [part for part in parts if len(part) > 1]
        variance = sum(len(part) * float(part.var(ddof=1)) for part in parts) / count**2
        width = float(stdtrit(max(1, count - len(parts)), 0.975)) * math.sqrt(variance)
        low = value - width if least is None else max(least, value - width)
        high = value + width if most is None else min(most, value + width)
        return value, Interval(low, high)

    def share(self, is_true: Bool[np.ndarray, "_"]) -> Estimate:
        """Compute a share of the samples, and its interval, which is not empty at 0 or 1 either.

        Wilson's score interval, for the number of independent samples that have the variance of
        these within their classes. One more sample with the share of all is added to each class,
        because the variance in a class whose samples all agree is not 0.

        Source: Wilson 1927; Brown, Cai & DasGupta 2001.
        """
        count, share = len(is_true), float(is_true.mean())
        spread = 0.0
        for members in self._strata:
            size = len(members)
            own = (float(is_true[members].sum()) + share) / (size + 1)
            spread += size / count * own * (1 - own)
        samples = count * (share * (1 - share) / spread if spread else 1.0)
        centre = (share + _Z**2 / (2 * samples)) / (1 + _Z**2 / samples)
        width = math.sqrt(share * (1 - share) / samples + (_Z / (2 * samples)) ** 2)
        width *= _Z / (1 + _Z**2 / samples)
        return share, Interval(
            low=max(0.0, min(share, centre - width)), high=min(1.0, max(share, centre + width))
        )

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
