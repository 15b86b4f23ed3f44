"""Precision, recall, density and coverage, by k-nearest-neighbour manifolds.

The manifold of a set is the union of balls around its points, each with the distance to the
point's k-th neighbour as radius. Intervals resample the samples; the real images and all radii
are fixed.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8

from pipeline.evaluation.metrics.bootstrap import Bootstrap, Estimate, Rows
from pipeline.evaluation.metrics.frechet import Features, distances, neighbour_distance

NEIGHBOURS = 3
DENSITY_NEIGHBOURS = 5

_CHUNK = 1000  # rows of a distance matrix held at once

Membership = Bool[np.ndarray, "_ m"]
Packed = UInt8[np.ndarray, "_ bytes"]
"""A membership matrix packed into bits."""


@dataclass(frozen=True)
class RealManifold:
    """Features of real images, and the radii of their balls.

    Attributes:
        points: features `[m, d]`.
        near: distance to the 3rd neighbour, for precision `[m]`.
        far: distance to the 5th neighbour, for density and coverage `[m]`.
    """

    points: Features
    near: Float[np.ndarray, "m"]
    far: Float[np.ndarray, "m"]

    @classmethod
    def of(cls, points: Features) -> "RealManifold":
        """Build the manifold of two or more points; k is at most their number minus one."""
        return cls(points, _radii(points, NEIGHBOURS), _radii(points, DENSITY_NEIGHBOURS))


@dataclass(frozen=True)
class Neighbourhood:
    """The four manifold metrics and their 95 % intervals.

    Attributes:
        precision: share of samples inside the real manifold.
        recall: share of real images inside the samples' manifold.
        density: mean number of real balls around a sample, over k; about 1 if samples are as dense
            as the real images, larger if they cluster.
        coverage: share of real balls that contain a sample.
    """

    precision: Estimate
    recall: Estimate
    density: Estimate
    coverage: Estimate


def neighbourhood(real: RealManifold, samples: Features, bootstrap: Bootstrap) -> Neighbourhood:
    """Compute precision, recall, density and coverage of `samples`.

    Source: precision and recall, Kynkaanniemi et al. 2019, arXiv:1904.06991, eq. 1-2; density and
    coverage, Naeem et al. 2020, arXiv:2002.09797, eq. 4-5.
    """
    radii = _radii(samples, NEIGHBOURS)
    is_inside, ball_counts, in_real_ball, in_sample_ball = [], [], [], []
    for at in range(0, len(samples), _CHUNK):
        pairwise = distances(samples[at : at + _CHUNK], real.points)
        is_inside.append((pairwise <= real.near).any(1))
        ball_counts.append((pairwise <= real.far).sum(1))
        in_real_ball.append(_packed(pairwise <= real.far))
        in_sample_ball.append(_packed(pairwise <= radii[at : at + _CHUNK, None]))
    num_real = len(real.points)
    density = np.concatenate(ball_counts) / _num_neighbours(real.points, DENSITY_NEIGHBOURS)
    return Neighbourhood(
        precision=bootstrap.mean(np.concatenate(is_inside).astype(np.float64), most=1.0),
        recall=_share_reached(np.concatenate(in_sample_ball), num_real, bootstrap),
        density=bootstrap.mean(density),
        coverage=_share_reached(np.concatenate(in_real_ball), num_real, bootstrap),
    )


def _packed(inside: Membership) -> Packed:
    found: np.ndarray = np.packbits(inside, axis=1)
    return found


def _share_reached(inside: Packed, num_real: int, bootstrap: Bootstrap) -> Estimate:
    """Compute the share of the `num_real` real images that some sample reaches."""

    def share(rows: Rows) -> float:
        reached = np.zeros(inside.shape[1], np.uint8)
        for at in range(0, len(rows), _CHUNK):
            reached |= np.bitwise_or.reduce(inside[rows[at : at + _CHUNK]], axis=0)
        return float(np.unpackbits(reached, count=num_real).mean())

    return bootstrap.of(share, most=1.0)


def _radii(points: Features, k: int) -> Float[np.ndarray, "_"]:
    # plus one, because the nearest neighbour of a point is itself
    return neighbour_distance(points, points, _num_neighbours(points, k) + 1)


def _num_neighbours(points: Features, k: int) -> int:
    return min(k, len(points) - 1)
