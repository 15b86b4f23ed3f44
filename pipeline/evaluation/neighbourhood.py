"""Do samples lie among the real images, and the real images among the samples?

A set's manifold is the union of balls around its points, each reaching to the point's k-th
neighbour. Intervals resample the samples; the real images, and how far each ball reaches, are held
fixed.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from pipeline.evaluation.bootstrap import Bootstrap, Found, Rows
from pipeline.evaluation.metrics import Features, distances, neighbour_distance

NEIGHBOURS = 3
DENSITY_NEIGHBOURS = 5

_CHUNK = 1000  # rows of a distance matrix held at once

Membership = Bool[np.ndarray, "_ m"]


@dataclass(frozen=True)
class RealManifold:
    """Real images, and the radii of their balls.

    Attributes:
        points: their features `[m, d]`.
        near: distance to the 3rd neighbour, for precision `[m]`.
        far: distance to the 5th neighbour, for density and coverage `[m]`.
    """

    points: Features
    near: Float[np.ndarray, "m"]
    far: Float[np.ndarray, "m"]

    @classmethod
    def of(cls, points: Features) -> "RealManifold":
        """Balls around two or more points; fewer neighbours where there are no more."""
        return cls(points, _radii(points, NEIGHBOURS), _radii(points, DENSITY_NEIGHBOURS))


@dataclass(frozen=True)
class Neighbourhood:
    """The four shares and their 95 % intervals.

    Attributes:
        precision: share of samples inside the real manifold.
        recall: share of real images inside the samples' manifold.
        density: real balls around a sample over k; about 1 where samples are as dense as the real
            images, and more where they crowd.
        coverage: share of real balls with a sample inside.
    """

    precision: Found
    recall: Found
    density: Found
    coverage: Found


def neighbourhood(real: RealManifold, samples: Features, bootstrap: Bootstrap) -> Neighbourhood:
    """All four of `samples`.

    Source: precision and recall, Kynkaanniemi et al. 2019, arXiv:1904.06991, eq. 1-2; density and
    coverage, Naeem et al. 2020, arXiv:2002.09797, eq. 4-5.
    """
    near, far, own = _memberships(real, samples)
    k = _reach(real.points, DENSITY_NEIGHBOURS)
    crowd = np.array([inside.sum() / k for inside in far])

    def reached(inside: Membership) -> Found:
        def share(rows: Rows) -> float:
            return float(inside[rows].any(0).mean())

        return bootstrap.of(share, most=1.0)

    return Neighbourhood(
        precision=bootstrap.mean(np.array([inside.any() for inside in near], np.float64), most=1.0),
        recall=reached(own),
        density=bootstrap.mean(crowd),
        coverage=reached(far),
    )


def _memberships(
    real: RealManifold, samples: Features
) -> tuple[Membership, Membership, Membership]:
    """Sample in real ball (3rd neighbour, 5th neighbour), real in sample's ball; `[n, m]` each."""
    radii = _radii(samples, NEIGHBOURS)
    near, far, own = [], [], []
    for at in range(0, len(samples), _CHUNK):
        apart = distances(samples[at : at + _CHUNK], real.points)
        near.append(apart <= real.near)
        far.append(apart <= real.far)
        own.append(apart <= radii[at : at + _CHUNK, None])
    return np.concatenate(near), np.concatenate(far), np.concatenate(own)


def _radii(points: Features, k: int) -> Float[np.ndarray, "_"]:
    return neighbour_distance(points, points, _reach(points, k) + 1)  # the nearest is itself


def _reach(points: Features, k: int) -> int:
    return min(k, len(points) - 1)
