"""Kernel distance (KID) of two sets of features."""

import numpy as np
from jaxtyping import Float

from pipeline.evaluation.metrics.bootstrap import Rows
from pipeline.evaluation.metrics.frechet import Features
from pipeline.evaluation.metrics.halves import HalfSamples, Replicates

_CHUNK = 1000  # rows of a kernel matrix held at once
_FEWEST = 4  # rows of a class, so that each half has a pair of them


class KernelReference:
    """Real images as the fixed side of a kernel distance; their own term is computed once."""

    def __init__(self, features: Features, labels: Rows) -> None:
        """Prepare two or more rows of features `[m, d]`, and their classes `[m]`."""
        self._features, self._labels = features.astype(np.float64), labels
        self._own: dict[bytes, float] = {}

    def distance(self, features: Features, halves: HalfSamples) -> Replicates:
        """Compute the unbiased squared maximum mean discrepancy with k(x, y) = (x.y / d + 1)^3.

        The samples of a class are independent, but their number is requested. So a mean over
        pairs of distinct rows has too few pairs of one class. Pairs are therefore averaged by
        classes, and the averages are weighted by the classes' shares of the real images. Being
        unbiased, the distance does not depend on the number of samples, unlike a Frechet distance,
        and can be negative by chance for equal distributions. Classes of fewer than four samples,
        or of one real image, are pooled.

        Source: Binkowski et al. 2018, arXiv:1801.01401, section 4; Gretton et al. 2012, eq. 3.
        """
        ours, theirs = _strata(halves.labels, self._labels)
        wide, first = features.astype(np.float64), halves.is_first
        members = np.concatenate([np.ones((1, len(wide))), first, ~first]).T.astype(np.float64)
        weights = _weights(members, ours, np.bincount(theirs) / len(theirs))
        values = _within(wide, weights, ours) - 2 * _across(wide, self._features, weights)
        values += self._within(theirs)
        splits = len(first)
        return Replicates(float(values[0]), values[1 : 1 + splits], values[1 + splits :])

    def _within(self, strata: Rows) -> float:
        """Compute the term of the real images; once, as all sample sets have the same classes."""
        key = strata.tobytes()
        if key not in self._own:
            uniform = np.full((len(strata), 1), 1 / len(strata))
            self._own[key] = float(_within(self._features, uniform, strata)[0])
        return self._own[key]


def _strata(samples: Rows, real: Rows) -> tuple[Rows, Rows]:
    """Number the classes that both sides have enough rows of from 1; 0 are all others."""
    classes = np.union1d(samples, real)
    counts = [(np.sum(samples == label), np.sum(real == label)) for label in classes]
    large = [at for at, (n, m) in zip(classes, counts, strict=True) if n >= _FEWEST and m > 1]
    found = np.zeros((2, int(classes.max()) + 1), np.int64)
    found[:, large] = 1 + np.arange(len(large))
    return found[0][samples], found[1][real]


def _weights(
    members: Float[np.ndarray, "n r"], strata: Rows, shares: Float[np.ndarray, "_"]
) -> Float[np.ndarray, "n r"]:
    """Weigh the members of each column so that every stratum has its share, and all together 1."""
    counts = _counts(members, strata)
    wanted = np.zeros(len(counts))
    wanted[: len(shares)] = shares[: len(counts)]
    found: np.ndarray = members * (wanted[:, None] / np.maximum(counts, 1))[strata]
    found /= found.sum(0)
    return found


def _counts(members: Float[np.ndarray, "n r"], strata: Rows) -> Float[np.ndarray, "s r"]:
    counts = np.zeros((int(strata.max()) + 1, members.shape[1]))
    np.add.at(counts, strata, members)
    return counts


def _kernel(first: Features, second: Features) -> Float[np.ndarray, "_ _"]:
    found: np.ndarray = (first @ second.T / first.shape[1] + 1) ** 3
    return found


def _within(x: Features, weights: Float[np.ndarray, "n r"], strata: Rows) -> Float[np.ndarray, "r"]:
    """Compute the mean of k over pairs of distinct rows, for each column of weights.

    Pairs of different strata have the product of their weights. A stratum of n rows has n (n - 1)
    pairs of distinct rows in place of n^2, so they weigh n / (n - 1) times the product.
    """
    total = np.zeros(weights.shape[1])
    for at in range(0, len(x), _CHUNK):
        total += _pairs(x[at : at + _CHUNK], x, weights[at : at + _CHUNK], weights, at)
    counts = _counts((weights > 0).astype(np.float64), strata)
    for stratum in np.unique(strata):
        (rows,) = np.nonzero(strata == stratum)
        own = np.zeros(weights.shape[1])
        for at in range(0, len(rows), _CHUNK):
            part = rows[at : at + _CHUNK]
            own += _pairs(x[part], x[rows], weights[part], weights[rows], at)
        total += own / np.maximum(counts[stratum] - 1, 1)
    return total


def _pairs(
    part: Features,
    x: Features,
    part_weights: Float[np.ndarray, "c r"],
    weights: Float[np.ndarray, "n r"],
    at: int,
) -> Float[np.ndarray, "r"]:
    """Sum the weighted k of all pairs but those of a row with itself; `part` is x from `at`."""
    kernel = _kernel(part, x)
    kernel[np.arange(len(kernel)), np.arange(at, at + len(kernel))] = 0
    found: np.ndarray = np.sum(part_weights * (kernel @ weights), axis=0)
    return found


def _across(x: Features, y: Features, weights: Float[np.ndarray, "n r"]) -> Float[np.ndarray, "r"]:
    """Compute the weighted mean of k over pairs (x, y), for each column of weights of `x`."""
    means = np.concatenate(
        [_kernel(x[at : at + _CHUNK], y).mean(1) for at in range(0, len(x), _CHUNK)]
    )
    found: np.ndarray = means @ weights
    return found
