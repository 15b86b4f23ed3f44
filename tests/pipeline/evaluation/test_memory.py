"""Peak memory of metrics on large sets."""

import subprocess
import sys
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

from pipeline.evaluation.metrics import frechet
from pipeline.evaluation.metrics import manifold as manifolds
from pipeline.evaluation.metrics.bootstrap import Bootstrap
from pipeline.evaluation.metrics.frechet import (
    Moments,
    frechet_estimate,
    neighbour_distance,
    paired_rms,
)
from pipeline.evaluation.metrics.manifold import RealManifold, neighbourhood

# a separate process, because torch's memory is visible to the operating system only
PAIRED = """
from pathlib import Path
import numpy as np
from pipeline.evaluation.metrics import pairwise

def most():
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))

images = np.full((6000, 32, 32, 3), 0.5, np.float32)
others = np.full(images.shape, 0.25, np.float32)
for measure in (pairwise.squared_errors, pairwise.psnr):
    measure(images[:2], others[:2])  # loads libraries
    before = most()
    measure(images, others)
    print((most() - before) / images.size)
"""


def peak(measure: Callable[[], object]) -> int:
    """Return the peak of numpy's allocations during `measure`, in bytes."""
    tracemalloc.start()
    measure()
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found


def test_pairs_of_images_are_not_made_wide_at_once() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PAIRED], capture_output=True, text=True, check=True
    )
    found = [float(each) for each in done.stdout.split()]
    # bytes a value: two float64 copies of the whole set took 16, and one takes 8; a chunk is one
    # 23rd of 6,000 images, so that even five copies of it take less than 2
    assert len(found) == 2
    assert max(found) < 8, found


def test_a_root_mean_square_holds_one_difference() -> None:
    first, second = np.full((2, 500, 32, 32, 3), 0.5, np.float32)
    # eight bytes a value, and buffers; of those there were two
    assert peak(lambda: paired_rms(first, second)) < 8 * first.size * 1.25


def test_a_resampled_distance_holds_one_wide_copy_of_its_rows() -> None:
    features = np.random.default_rng(0).normal(size=(10_000, 64)).astype(np.float32)
    bootstrap = Bootstrap(np.zeros(len(features), np.int64), 2, seed=0)
    reference = Moments.of(features)
    assert len(bootstrap.rows) == 2  # drawn before it is measured
    found = peak(lambda: frechet_estimate(reference, features, bootstrap))
    # eight bytes a value, a tenth of that for a chunk (1,000 rows, 4 bytes a value), matrices of
    # 64 x 64; numpy's cov of rows made wide took four copies
    assert found < 8 * features.size * 1.25


def test_resampled_shares_hold_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    count = 3000
    real, samples = np.random.default_rng(0).normal(size=(2, count, 2))
    for module in (frechet, manifolds):
        monkeypatch.setattr(module, "_CHUNK", 20)  # as few of 3,000 as 1,000 are of 150,000
    bootstrap = Bootstrap(np.zeros(count, np.int64), 2, seed=0)
    assert len(bootstrap.rows) == 2
    manifold = RealManifold.of(real)
    # two matrices of bits, in parts and whole, are half a matrix of booleans, of which there were
    # five; a chunk of distances is 20 * 8 bytes a column, and is held some five times over
    most = count**2 // 2 + 5 * 20 * 8 * count
    assert peak(lambda: neighbourhood(manifold, samples, bootstrap)) < most


def test_distances_to_neighbours_keep_no_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    count = 2000
    points = np.random.default_rng(0).normal(size=(count, 2))
    monkeypatch.setattr(frechet, "_CHUNK", 20)
    # some five of the 100 chunks, and three columns; views of their column kept all of them
    most = (5 * 20 + 3) * 8 * count
    assert peak(lambda: neighbour_distance(points, points, 4)) < most
