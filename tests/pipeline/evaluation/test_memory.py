"""Peak memory of metrics on large sets."""

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

from pipeline.evaluation.metrics import frechet
from pipeline.evaluation.metrics import manifold as manifolds
from pipeline.evaluation.metrics.bootstrap import Bootstrap
from pipeline.evaluation.metrics.halves import HalfSamples
from pipeline.evaluation.metrics.manifold import RealManifold, neighbourhood


def peak(measure: Callable[[], object]) -> int:
    """Return the peak of numpy's allocations during `measure`, in bytes."""
    tracemalloc.start()
    measure()
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found


def bootstrap(count: int) -> Bootstrap:
    drawn = Bootstrap(np.zeros(count, np.int64), 2, seed=0)
    assert len(drawn.rows) == 2  # drawn before it is measured
    return drawn


def halves(count: int) -> HalfSamples:
    split = HalfSamples(np.zeros(count, np.int64), seed=0, splits=2)
    assert len(split.is_first) == 2  # split before it is measured
    return split


def test_distances_hold_one_wide_copy() -> None:
    first, second = np.full((2, 500, 32, 32, 3), 0.5, np.float32)
    # eight bytes a value, and buffers; of those there were two
    assert peak(lambda: frechet.paired_rms(first, second)) < 8 * first.size * 1.25
    features = np.random.default_rng(0).normal(size=(10_000, 64)).astype(np.float32)
    drawn, reference = halves(len(features)), frechet.Moments.of(features)
    found = peak(lambda: frechet.frechet_replicates(reference, features, drawn))
    # eight bytes a value, a tenth of that for a chunk (1,000 rows, 4 bytes a value), matrices of
    # 64 x 64; numpy's cov of rows made wide took four copies
    assert found < 8 * features.size * 1.25


def test_resampled_shares_hold_bits_and_distances_keep_no_chunk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    count = 3000
    real, samples = np.random.default_rng(0).normal(size=(2, count, 2))
    for module in (frechet, manifolds):
        monkeypatch.setattr(module, "_CHUNK", 20)  # as few of 3,000 as 1,000 are of 150,000
    drawn, manifold = bootstrap(count), RealManifold.of(real)
    # a matrix of bits, in parts and whole, is a quarter of a matrix of booleans; a chunk of
    # distances is 20 * 8 bytes a column, and is held some five times over; of each sample there
    # are 32 neighbours, with distance and row, in parts and whole, and as many for one half
    most = count**2 // 4 + (5 * 20 + 2 * 2 * 32 + 2 * 32) * 8 * count
    split = halves(count)
    assert peak(lambda: neighbourhood(manifold, samples, drawn, split)) < most
    # some five of the 150 chunks, and three columns; views of their column kept all of them
    most = (5 * 20 + 3) * 8 * count
    assert peak(lambda: frechet.neighbour_distance(real, real, 4)) < most
