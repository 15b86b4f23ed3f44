"""Effective guidance weight: the w at which the teacher's samples match given samples best.

The teacher is sampled at a few w. Between them its samples are interpolated by a spline in
log(1 + w), along which they are nearly polynomial: samples at w = 3 lie at 2.99 of the spline
through 0, 1, 2 and 4, and at 3.06 of the line through 0 and 4 (digits, 500 samples). The squared
difference is then a polynomial whose coefficients are inner products.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float
from scipy.interpolate import CubicSpline  # type: ignore[import-untyped] # it has no stubs

from pipeline.evaluation.metrics.bootstrap import Rows
from pipeline.evaluation.metrics.frechet import Features
from pipeline.evaluation.metrics.halves import HalfSamples, Replicates
from pipeline.sampling.sampler import Images

_POINTS = 2001
_FLAT = 1e-12  # of the squared samples, the rounding of their sums
_CHUNK = 256  # images at once


@dataclass(frozen=True)
class TeacherSweep:
    """The teacher's samples at several guidance weights.

    Attributes:
        images: loads the samples from the students' starting noise, by guidance weight.
        features: features `[n, d]` of samples from other noise, by guidance weight.
    """

    images: Mapping[float, Callable[[], Images]]
    features: Mapping[float, Features]

    @property
    def weights(self) -> tuple[float, ...]:
        """Guidance weights, ascending."""
        return tuple(sorted(self.images or self.features))

    def of_images(self, images: Images, halves: HalfSamples) -> Replicates | None:
        """Compute the effective w of samples from the teacher's noise.

        None with a single w, or if the teacher's samples do not depend on w.
        """
        if len(self.images) < 2:
            return None
        found = [_products(images, self.images[w]()) for w in self.weights]
        crosses = _members(halves) @ np.stack(found, axis=1)
        return self._best(self._sums_of(halves), crosses)

    def of_features(self, features: Features, halves: HalfSamples) -> Replicates | None:
        """Compute the effective w of samples from any noise, by mean features of each class.

        None as in `of_images`.
        """
        if len(self.features) < 2:
            return None
        grams, crosses = [], []
        for rows in (np.arange(len(features)), *(half for both in halves.rows() for half in both)):
            labels = halves.labels[rows]
            means = np.stack([_class_means(self.features[w], rows, labels) for w in self.weights])
            grams.append(np.einsum("kcd,lcd->kl", means, means))
            crosses.append(np.einsum("kcd,cd->k", means, _class_means(features, rows, labels)))
        return self._best(np.stack(grams), np.stack(crosses))

    @cached_property
    def _grams(self) -> Float[np.ndarray, "n k k"]:
        """Inner products of the teacher's samples at all pairs of w, by sample."""
        size = len(self.weights)
        found = np.empty((len(self.images[self.weights[0]]()), size, size))
        for one, w in enumerate(self.weights):
            images = self.images[w]()
            for two in range(one, size):
                products = _products(images, self.images[self.weights[two]]())
                found[:, one, two] = found[:, two, one] = products
        return found

    def _sums_of(self, halves: HalfSamples) -> Float[np.ndarray, "sets k k"]:
        size = len(self.weights)
        flat = self._grams.reshape(len(self._grams), size * size)
        found: np.ndarray = (_members(halves) @ flat).reshape(-1, size, size)
        return found

    def _best(
        self, grams: Float[np.ndarray, "sets k k"], crosses: Float[np.ndarray, "sets k"]
    ) -> Replicates | None:
        """Minimise the squared difference to the interpolated samples, for every set of rows."""
        known = np.log1p(self.weights)
        # half an interval beyond the ends; further out a spline means nothing
        low = max(0.0, known[0] - (known[1] - known[0]) / 2)
        at = np.linspace(low, known[-1] + (known[-1] - known[-2]) / 2, _POINTS)
        terms = CubicSpline(known, np.eye(len(known)))(at)
        squares = np.einsum("fk,skl,fl->sf", terms, grams, terms, optimize=True)
        values = squares - 2 * crosses @ terms.T
        if np.ptp(values[0]) <= _FLAT * np.abs(grams[0]).max():
            return None
        best = np.array([_minimum(at, each) for each in values])
        found = np.expm1(best)
        return Replicates(float(found[0]), found[1::2], found[2::2])


def _minimum(at: Float[np.ndarray, "f"], values: Float[np.ndarray, "f"]) -> float:
    """Return the place of the least value, by a parabola through it and its neighbours."""
    place = int(values.argmin())
    if place in (0, len(at) - 1):
        return float(at[place])
    before, least, after = values[place - 1 : place + 2]
    bend = before - 2 * least + after
    offset = 0.5 * (before - after) / bend if bend > 0 else 0.0
    return float(at[place] + offset * (at[1] - at[0]))


def _members(halves: HalfSamples) -> Float[np.ndarray, "sets n"]:
    """Membership of every row in all rows, and in the halves of each split."""
    first = halves.is_first
    both = np.stack([first, ~first], axis=1).reshape(-1, first.shape[1])
    return np.concatenate([np.ones((1, both.shape[1])), both]).astype(np.float64)


def _products(images: Images, others: Images) -> Float[np.ndarray, "n"]:
    """Compute the inner product of every pair of images, in chunks, which bounds the copies."""
    found = np.empty(len(images))
    for at in range(0, len(images), _CHUNK):
        part = slice(at, at + _CHUNK)
        one, two = (each[part].reshape(len(each[part]), -1) for each in (images, others))
        found[part] = np.einsum("np,np->n", one.astype(np.float64), two.astype(np.float64))
    return found


def _class_means(features: Features, rows: Rows, labels: Rows) -> Float[np.ndarray, "c d"]:
    """Compute the mean of each class, times the root of its share of the rows."""
    order = np.argsort(labels, kind="stable")
    _, firsts, counts = np.unique(labels[order], return_index=True, return_counts=True)
    sums = np.add.reduceat(features[rows[order]].astype(np.float64), firsts, axis=0)
    found: np.ndarray = sums / np.sqrt(counts * len(rows))[:, None]
    return found
