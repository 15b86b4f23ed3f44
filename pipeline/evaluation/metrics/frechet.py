"""Frechet distance, classifier scores, and nearest-neighbour and paired distances of features."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64

from pipeline.evaluation.metrics.bootstrap import Rows
from pipeline.evaluation.metrics.halves import HalfSamples, Replicates

Features = Float[np.ndarray, "_ d"]

Probabilities = Float[np.ndarray, "n classes"]

_CHUNK = 1000  # rows of a distance matrix held at once


@dataclass(frozen=True)
class Moments:
    """Mean `[d]` and covariance `[d, d]` of a set of features."""

    mean: Float[np.ndarray, "d"]
    covariance: Float[np.ndarray, "d d"]

    @classmethod
    def of(cls, features: Features) -> "Moments":
        """Compute the sample mean and the unbiased covariance of two or more rows."""
        return cls.of_rows(features, np.arange(len(features)))

    @classmethod
    def of_rows(cls, features: Features, rows: Rows) -> "Moments":
        """Compute the moments of selected rows, which may repeat, with a single copy of them."""
        wide = np.empty((len(rows), features.shape[1]))
        for at in range(0, len(rows), _CHUNK):
            wide[at : at + _CHUNK] = features[rows[at : at + _CHUNK]]
        mean = wide.mean(0)
        wide -= mean  # bitwise equal to numpy.cov, which makes further copies
        return cls(mean, np.dot(wide.T, wide) * np.true_divide(1, len(rows) - 1))


def frechet_distance(first: Moments, second: Moments) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)): squared 2-Wasserstein distance of two Gaussians.

    The trace of the root is computed from the symmetric R C2 R with R = C1^(1/2), which has the
    eigenvalues of C1 C2. Unlike those of a general matrix root, they stay real and accurate for
    rank-deficient covariances.

    Source: Dowson & Landau 1982; Heusel et al. 2017, arXiv:1706.08500, eq. 6.
    """
    return _frechet_from_root(first, _root(first.covariance), second)


def _frechet_from_root(first: Moments, root: Float[np.ndarray, "d d"], second: Moments) -> float:
    product = np.linalg.eigvalsh(root @ second.covariance @ root)
    spread = np.trace(first.covariance) + np.trace(second.covariance)
    shift = float(np.sum((first.mean - second.mean) ** 2))
    overlap = 2 * float(np.sqrt(np.clip(product, 0, None)).sum())
    return max(0.0, shift + float(spread) - overlap)


def _root(covariance: Float[np.ndarray, "d d"]) -> Float[np.ndarray, "d d"]:
    values, vectors = np.linalg.eigh(covariance)
    root: np.ndarray = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    return root


def frechet_replicates(reference: Moments, features: Features, halves: HalfSamples) -> Replicates:
    """Compute the Frechet distance of `features` and of their halves to a fixed reference."""
    if len(features) < features.shape[1]:
        return halves.of(_by_pairs(reference, features.astype(np.float64)))
    root = _root(reference.covariance)
    return halves.of(
        lambda rows: _frechet_from_root(reference, root, Moments.of_rows(features, rows)),
    )


def _by_pairs(reference: Moments, wide: Features) -> Callable[[Rows], float]:
    """Return the distance as a function of rows, via Gram matrices: cheaper if n < d.

    With X the centred rows, X'X / (n - 1) is their covariance C2, and C1 C2 has the eigenvalues
    of X C1 X' / (n - 1) besides zeros.
    """
    off = wide - reference.mean
    plain, bent = off @ off.T, off @ reference.covariance @ off.T

    def measure(rows: Rows) -> float:
        pairs, count = np.ix_(rows, rows), len(rows)
        shift = float(plain[pairs].mean())
        spread = (float(np.trace(plain[pairs])) - count * shift) / (count - 1)
        product = np.linalg.eigvalsh(_centred(bent[pairs]) / (count - 1))
        overlap = 2 * float(np.sqrt(np.clip(product, 0, None)).sum())
        return max(0.0, shift + float(np.trace(reference.covariance)) + spread - overlap)

    return measure


def _centred(products: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"]:
    """Convert the Gram matrix of rows to that of the centred rows."""
    found: np.ndarray = products - products.mean(0) - products.mean(1)[:, None] + products.mean()
    return found


def inception_type_score(probabilities: Probabilities) -> float:
    """Compute exp(E KL(p(class | sample) || p(class))), from 1 to the number of classes.

    Source: Salimans et al. 2016, arXiv:1606.03498, section 4, with another classifier than
    Inception.
    """
    p = probabilities.astype(np.float64)
    tiny = np.finfo(np.float64).tiny  # 0 log 0 = 0
    divergence = p * (np.log(np.maximum(p, tiny)) - np.log(np.maximum(p.mean(0), tiny)))
    return float(np.exp(divergence.sum(1).mean()))


def is_correct(
    probabilities: Probabilities, labels: Int64[np.ndarray, "n"]
) -> Bool[np.ndarray, "n"]:
    """Return whether each sample is classified as its conditioning class."""
    found: np.ndarray = probabilities.argmax(1) == labels
    return found


def neighbour_distance(points: Features, among: Features, k: int = 1) -> Float[np.ndarray, "_"]:
    """Compute the Euclidean distance of each point to its k-th nearest row of `among`, `[n]`.

    Raises:
        ValueError: `among` has fewer than k rows.
    """
    if len(among) < k:
        raise ValueError(f"k = {k} neighbours need at least {k} points, found {len(among)}")
    # copied, because a view of the column would keep the whole chunk of distances in memory
    parts = [
        np.partition(distances(points[at : at + _CHUNK], among), k - 1, axis=1)[:, k - 1].copy()
        for at in range(0, len(points), _CHUNK)
    ]
    return np.concatenate(parts)


def distances(points: Features, others: Features) -> Float[np.ndarray, "_ _"]:
    """Compute the Euclidean distances of all pairs, `[points, others]`."""
    from sklearn.metrics.pairwise import euclidean_distances

    # float64, because scikit-learn's |a|^2 + |b|^2 - 2 ab loses small distances in float32
    found: np.ndarray = euclidean_distances(points.astype(np.float64), others.astype(np.float64))
    return found


def paired_rms(first: Float[np.ndarray, "n ..."], second: Float[np.ndarray, "n ..."]) -> float:
    """Compute the root mean square difference of two paired sets (same noise, same class)."""
    difference = np.subtract(first, second, dtype=np.float64)
    return float(np.sqrt(np.mean(np.square(difference, out=difference))))
