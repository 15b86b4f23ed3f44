"""Precision, recall, density and coverage, by k-nearest-neighbour manifolds.

The manifold of a set is the union of balls around its points, each with the distance to the
point's k-th neighbour as radius. The real images are fixed. For the interval of recall the radii of
the samples are those within each half of the samples: fixed radii would give half the spread.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8

from pipeline.evaluation.metrics.bootstrap import Bootstrap, Estimate, Rows
from pipeline.evaluation.metrics.frechet import Features, distances, neighbour_distance
from pipeline.evaluation.metrics.halves import HalfSamples, Replicates

NEIGHBOURS = 3
DENSITY_NEIGHBOURS = 5

_CHUNK = 1000  # rows of a distance matrix held at once
# nearest neighbours kept; one in 10^7 times, fewer than 3 of 31 others are in a random half
_NEAREST = 32

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
        recall: share of real images inside the samples' manifold, of all samples and of halves.
        density: mean number of real balls around a sample, over k; about 1 if samples are as dense
            as the real images, larger if they cluster.
        coverage: share of real balls that contain a sample.
    """

    precision: Estimate
    recall: Replicates
    density: Estimate
    coverage: Estimate


def neighbourhood(
    real: RealManifold, samples: Features, bootstrap: Bootstrap, halves: HalfSamples
) -> Neighbourhood:
    """Compute precision, recall, density and coverage of `samples`.

    Source: precision and recall, Kynkaanniemi et al. 2019, arXiv:1904.06991, eq. 1-2; density and
    coverage, Naeem et al. 2020, arXiv:2002.09797, eq. 4-5.
    """
    radii = half_radii(samples, halves)
    is_inside, ball_counts, in_real_ball = [], [], []
    reached = np.zeros((len(radii), len(real.points)), bool)
    for at in range(0, len(samples), _CHUNK):
        pairwise = distances(samples[at : at + _CHUNK], real.points)
        is_inside.append((pairwise <= real.near).any(1))
        ball_counts.append((pairwise <= real.far).sum(1))
        in_real_ball.append(_packed(pairwise <= real.far))
        _reach(pairwise, radii[:, at : at + _CHUNK], reached)
    num_real = len(real.points)
    density = np.concatenate(ball_counts) / _num_neighbours(real.points, DENSITY_NEIGHBOURS)
    return Neighbourhood(
        precision=bootstrap.share(np.concatenate(is_inside)),
        recall=_recall(reached),
        density=bootstrap.mean(density),
        coverage=_share_reached(np.concatenate(in_real_ball), num_real, bootstrap),
    )


def recall(real: RealManifold, samples: Features, halves: HalfSamples) -> Replicates:
    """Compute the recall of samples and of their halves, without the other metrics."""
    radii = half_radii(samples, halves)
    reached = np.zeros((len(radii), len(real.points)), bool)
    for at in range(0, len(samples), _CHUNK):
        pairwise = distances(samples[at : at + _CHUNK], real.points)
        _reach(pairwise, radii[:, at : at + _CHUNK], reached)
    return _recall(reached)


def half_radii(samples: Features, halves: HalfSamples) -> Float[np.ndarray, "sets n"]:
    """Compute the radius of every sample among all samples, and within its half of every split.

    Rows: all samples, then the first and the second half of each split. A sample outside a half has
    a radius of -1 there, which contains nothing.
    """
    apart, places = _nearest(samples, min(_NEAREST, len(samples)))
    members = [np.ones(len(samples), bool)]
    members += [half for first in halves.is_first for half in (first, ~first)]
    found = np.full((len(members), len(samples)), -1.0)
    for radii, member in zip(found, members, strict=True):
        rank = min(NEIGHBOURS, int(member.sum()) - 1) + 1  # the nearest neighbour is itself
        counts = member[places].cumsum(1)
        radii[:] = np.take_along_axis(apart, (counts >= rank).argmax(1)[:, None], 1)[:, 0]
        for row in np.flatnonzero(counts[:, -1] < rank):
            among = samples[member]
            radii[row] = neighbour_distance(samples[row : row + 1], among, rank)[0]
        radii[~member] = -1.0
    return found


def _nearest(
    points: Features, count: int
) -> tuple[Float[np.ndarray, "n k"], Int64[np.ndarray, "n k"]]:
    """Return the distances to the nearest points, ascending, and their rows."""
    apart, places = [], []
    for at in range(0, len(points), _CHUNK):
        pairwise = distances(points[at : at + _CHUNK], points)
        nearest = np.argpartition(pairwise, count - 1, axis=1)[:, :count]
        ordered = np.take_along_axis(pairwise, nearest, 1).argsort(1)
        nearest = np.take_along_axis(nearest, ordered, 1)
        places.append(nearest)
        apart.append(np.take_along_axis(pairwise, nearest, 1))
    return np.concatenate(apart), np.concatenate(places)


def _reach(
    pairwise: Float[np.ndarray, "c m"],
    radii: Float[np.ndarray, "sets c"],
    reached: Bool[np.ndarray, "sets m"],
) -> None:
    """Mark the real images within the radii of some samples, in place."""
    rows, columns = np.nonzero(pairwise <= radii.max(0)[:, None])
    apart = pairwise[rows, columns]
    for own, found in zip(radii, reached, strict=True):
        found[columns[apart <= own[rows]]] = True


def _recall(reached: Bool[np.ndarray, "sets m"]) -> Replicates:
    shares = reached.mean(1)
    return Replicates(float(shares[0]), shares[1::2], shares[2::2], is_smooth=False)


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
