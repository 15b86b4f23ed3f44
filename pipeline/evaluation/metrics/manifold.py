"""Do samples lie among the real images, and the real images among the samples?

A set's manifold is the union of balls around its points, each reaching to the point's k-th
neighbour. Intervals resample the samples; the real images, and how far each ball reaches, are held
fixed.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8

from pipeline.evaluation.metrics.bootstrap import Bootstrap, Found, Rows
from pipeline.evaluation.metrics.frechet import Features, distances, neighbour_distance

NEIGHBOURS = 3
DENSITY_NEIGHBOURS = 5

_CHUNK = 1000  # rows of a distance matrix held at once

Membership = Bool[np.ndarray, "_ m"]
Packed = UInt8[np.ndarray, "_ bytes"]
"""The same, eight to a byte."""


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
    radii = _radii(samples, NEIGHBOURS)
    inside, crowd, far, own = [], [], [], []
    for at in range(0, len(samples), _CHUNK):
        apart = distances(samples[at : at + _CHUNK], real.points)
        inside.append((apart <= real.near).any(1))
        crowd.append((apart <= real.far).sum(1))
        far.append(_packed(apart <= real.far))
        own.append(_packed(apart <= radii[at : at + _CHUNK, None]))
    among = len(real.points)
    density = np.concatenate(crowd) / _reach(real.points, DENSITY_NEIGHBOURS)
    return Neighbourhood(
        precision=bootstrap.mean(np.concatenate(inside).astype(np.float64), most=1.0),
        recall=_reached(np.concatenate(own), among, bootstrap),
        density=bootstrap.mean(density),
        coverage=_reached(np.concatenate(far), among, bootstrap),
    )


def _packed(inside: Membership) -> Packed:
    found: np.ndarray = np.packbits(inside, axis=1)
    return found


def _reached(inside: Packed, among: int, bootstrap: Bootstrap) -> Found:
    """Share of the real images, `among` in all, that any sample reaches."""

    def share(rows: Rows) -> float:
        reached = np.zeros(inside.shape[1], np.uint8)
        for at in range(0, len(rows), _CHUNK):
            reached |= np.bitwise_or.reduce(inside[rows[at : at + _CHUNK]], axis=0)
        return float(np.unpackbits(reached, count=among).mean())

    return bootstrap.of(share, most=1.0)


def _radii(points: Features, k: int) -> Float[np.ndarray, "_"]:
    return neighbour_distance(points, points, _reach(points, k) + 1)  # the nearest is itself


def _reach(points: Features, k: int) -> int:
    return min(k, len(points) - 1)
