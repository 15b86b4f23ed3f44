"""Confidence intervals of statistics of a whole sample set, by half-samples.

A bootstrap repeats rows, so it is too wide for a Frechet distance near its minimum and too narrow
for a share that depends on the distances between samples. Halves repeat none. They also give the
first-order bias of a distance, and the interval of a difference of two sets with paired rows.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int64
from scipy.special import stdtrit  # type: ignore[import-untyped] # it has no stubs

from pipeline.evaluation.metrics.bootstrap import Estimate, Interval, Rows

SPLITS = 50


@dataclass(frozen=True)
class Replicates:
    """A statistic of all rows, and of both halves of every random split.

    Attributes:
        value: statistic of all rows.
        first: statistic of the first half of each split.
        second: statistic of its second half.
        is_smooth: whether the statistic has a second-order expansion in the distribution of rows,
            as a Frechet distance has and a nearest-neighbour share has not.
    """

    value: float
    first: Float[np.ndarray, "r"]
    second: Float[np.ndarray, "r"]
    is_smooth: bool = True

    @property
    def debiased(self) -> float:
        """The value without its bias of order 1 / n: 2 T(n) - T(n / 2)."""
        return 2 * self.value - float(self.first.mean() + self.second.mean()) / 2

    @property
    def standard_error(self) -> float:
        """Standard error of the value.

        With D and S half the difference and half the sum of the statistic on two halves, E D^2 is
        Var T(n / 2) / 2, because halves are independent. To second order it counts the quadratic
        part of the variance twice, and Var S, over splits of the same rows, counts it once. So a
        smooth statistic has the variance E D^2 - Var S, which is at least E D^2 / 2. Without an
        expansion it is that of the delete-half jackknife, E D^2 + Var S.

        Source: Efron & Stein 1981, section 5 (the bias of a jackknife's variance); Shao & Wu 1989
        (statistics that are not smooth).
        """
        odd = float(np.mean((self.first - self.second) ** 2)) / 4
        even = float(np.var((self.first + self.second) / 2))
        return math.sqrt(max(odd - even, odd / 2) if self.is_smooth else odd + even)

    def minus(self, other: "Replicates", factor: float = 1.0) -> "Replicates":
        """Subtract a multiple of a statistic of the same splits, such as that of paired rows."""
        return Replicates(
            self.value - factor * other.value,
            self.first - factor * other.first,
            self.second - factor * other.second,
            self.is_smooth and other.is_smooth,
        )

    def ratio(self, other: "Replicates") -> Estimate:
        """Compute the ratio to a statistic of paired rows, with its interval (delta method).

        1 if the other statistic is 0.
        """
        if other.value == 0:
            return 1.0, Interval(1.0, 1.0)
        ratio = self.value / other.value
        width = _reach(len(self.first)) * self.minus(other, ratio).standard_error
        return ratio, Interval(ratio - width / abs(other.value), ratio + width / abs(other.value))

    def relative_distance(self, teacher: "Replicates") -> Estimate:
        """Compute 1 + (distance - the teacher's) / the teacher's without bias, with its interval.

        Both distances have the same bias of order 1 / n, which a ratio of them keeps: it tends to 1
        for few samples. Their difference has none. The unit is the teacher's debiased distance, and
        at least its standard error, where few samples leave nothing of it.
        """
        difference = self.minus(teacher)
        unit = max(teacher.debiased, teacher.standard_error)
        if unit == 0:
            return 1.0, Interval(1.0, 1.0)
        excess = difference.value / unit
        # the unit has the first-order influence of the teacher's distance
        width = _reach(len(self.first)) * difference.minus(teacher, excess).standard_error / unit
        return 1 + excess, Interval(1 + excess - width, 1 + excess + width)

    def estimate(self, *, least: float | None = 0.0, most: float | None = None) -> Estimate:
        """Return the value and its 95 % interval, clipped to the bounds of the statistic.

        The interval is for the mean of the statistic at this number of rows.
        """
        width = _reach(len(self.first)) * self.standard_error
        low, high = self.value - width, self.value + width
        low = low if least is None else max(least, low)
        high = high if most is None else min(most, high)
        return self.value, Interval(low, high)


@dataclass(frozen=True)
class HalfSamples:
    """Random splits of the rows of a sample set into two halves with equal classes.

    Sets with the same labels have the same splits, so that their statistics are paired. Classes of
    one sample are pooled. A class of an odd number of rows gives one half a row more.

    Attributes:
        labels: class of every row.
        seed: seed of the splits.
        splits: number of splits.
    """

    labels: Rows
    seed: int
    splits: int = SPLITS

    @cached_property
    def is_first(self) -> Bool[np.ndarray, "r n"]:
        """Whether each row is in the first half of each split."""
        random, count = np.random.default_rng(self.seed), len(self.labels)
        classes, places, counts = np.unique(self.labels, return_inverse=True, return_counts=True)
        strata = np.where(counts[places] == 1, len(classes), places)
        found = np.zeros((self.splits, count), bool)
        for split in found:
            # every second row in order of class, shuffled within classes
            order = np.lexsort((random.random(count), strata))
            split[order[random.integers(2) :: 2]] = True
        return found

    def rows(self) -> list[tuple[Int64[np.ndarray, "_"], Int64[np.ndarray, "_"]]]:
        """Return the rows of both halves of every split."""
        return [(np.flatnonzero(split), np.flatnonzero(~split)) for split in self.is_first]

    def of(self, measure: Callable[[Rows], float]) -> Replicates:
        """Compute a smooth statistic of all rows and of both halves of every split.

        Args:
            measure: computes the statistic of the given rows.
        """
        halves = np.array([(measure(one), measure(two)) for one, two in self.rows()])
        return Replicates(measure(np.arange(len(self.labels))), halves[:, 0], halves[:, 1])


def _reach(splits: int) -> float:
    """Quantile of Student's t: the spread is known from as many splits, not exactly."""
    return float(stdtrit(splits, 0.975))
