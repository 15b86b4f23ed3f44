"""Kernel distance (KID) of two sets of features."""

import numpy as np
from jaxtyping import Float

from pipeline.evaluation.metrics.bootstrap import Bootstrap, Estimate
from pipeline.evaluation.metrics.frechet import Features

_CHUNK = 1000  # rows of a kernel matrix held at once


class KernelReference:
    """Real images as the fixed side of a kernel distance; their own term is computed once."""

    def __init__(self, features: Features) -> None:
        """Prepare two or more rows of features `[m, d]`."""
        self._features = features.astype(np.float64)
        ones = np.ones((len(features), 1))
        (within,) = _within(self._features, ones)
        self._within = float(within)

    def distance(self, features: Features, bootstrap: Bootstrap) -> Estimate:
        """Compute the unbiased squared maximum mean discrepancy with k(x, y) = (x.y / d + 1)^3.

        Being unbiased, it does not depend on the number of samples, unlike a Frechet distance, and
        can be negative by chance for equal distributions. A bootstrap repeats rows; pairs of a row
        with itself are excluded there as in the measured value.

        Source: Binkowski et al. 2018, arXiv:1801.01401, section 4; Gretton et al. 2012, eq. 3.
        """
        wide = features.astype(np.float64)
        counts = [np.bincount(rows, minlength=len(wide)) for rows in bootstrap.rows]
        weights = np.stack([np.ones(len(wide)), *counts], axis=1).astype(np.float64)
        across = _across(wide, self._features, weights)
        values = self._within + _within(wide, weights) - 2 * across
        return float(values[0]), bootstrap.around(float(values[0]), values[1:], least=None)


def _kernel(first: Features, second: Features) -> Float[np.ndarray, "_ _"]:
    found: np.ndarray = (first @ second.T / first.shape[1] + 1) ** 3
    return found


def _within(x: Features, weights: Float[np.ndarray, "n r"]) -> Float[np.ndarray, "r"]:
    """Compute the weighted mean of k over pairs of distinct rows, for each column of weights."""
    total = np.zeros(weights.shape[1])
    for at in range(0, len(x), _CHUNK):
        part = slice(at, at + _CHUNK)
        kernel = _kernel(x[part], x)
        kernel[np.arange(len(kernel)), np.arange(at, at + len(kernel))] = 0
        total += np.sum(weights[part] * (kernel @ weights), axis=0)
    pairs = weights.sum(0) ** 2 - (weights**2).sum(0)
    means: np.ndarray = total / pairs
    return means


def _across(x: Features, y: Features, weights: Float[np.ndarray, "n r"]) -> Float[np.ndarray, "r"]:
    """Compute the weighted mean of k over pairs (x, y), for each column of weights of `x`."""
    means = np.concatenate(
        [_kernel(x[at : at + _CHUNK], y).mean(1) for at in range(0, len(x), _CHUNK)]
    )
    found: np.ndarray = means @ weights / weights.sum(0)
    return found
