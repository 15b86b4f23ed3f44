"""The kernel distance: equal to a library's, unbiased, with intervals of nominal coverage."""

import numpy as np
import pytest
import torch
from torchmetrics.image.kid import poly_mmd

from pipeline.evaluation.metrics.bootstrap import Bootstrap
from pipeline.evaluation.metrics.kid import KernelReference


def rows(count: int, seed: int, size: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, size))


def distance(real: np.ndarray, samples: np.ndarray) -> float:
    bootstrap = Bootstrap(np.zeros(len(samples), np.int64), 3, seed=0)
    return KernelReference(real).distance(samples, bootstrap)[0]


def test_it_is_the_librarys_where_both_sets_are_of_one_size() -> None:
    real, samples = rows(50, 0), rows(50, 1) + 0.3
    theirs = float(poly_mmd(torch.from_numpy(real), torch.from_numpy(samples)))
    assert distance(real, samples) == pytest.approx(theirs, rel=1e-12)


def test_sets_of_different_sizes_are_measured_as_written() -> None:
    real, samples = rows(1100, 0), rows(7, 1)  # more than one chunk
    kernel = {
        name: (first @ second.T / 6 + 1) ** 3
        for name, first, second in (
            ("real", real, real), ("samples", samples, samples), ("both", real, samples)
        )
    }  # fmt: skip
    off = {name: (k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for name, k in kernel.items()}
    expected = off["real"] + off["samples"] - 2 * kernel["both"].mean()
    assert distance(real, samples) == pytest.approx(expected, rel=1e-9)


def test_equal_sets_are_at_the_value_that_unbiasedness_gives_them() -> None:
    # with K the kernel of a set with itself, n rows: 2 (offdiagonal mean - mean)
    real = rows(40, 0)
    kernel = (real @ real.T / 6 + 1) ** 3
    off = (kernel.sum() - np.trace(kernel)) / (40 * 39)
    assert distance(real, real) == pytest.approx(2 * (off - kernel.mean()), rel=1e-12)
    assert distance(real, real) < 0


def test_sets_of_one_distribution_are_at_0_in_the_mean_and_below_it_as_often() -> None:
    found = np.array([distance(rows(60, 2 * seed), rows(60, 2 * seed + 1)) for seed in range(200)])
    assert abs(found.mean()) < 4 * found.std() / np.sqrt(len(found))
    assert 0.25 < (found < 0).mean() < 0.75


def test_intervals_hold_the_distance_of_the_distributions() -> None:
    real = KernelReference(rows(3000, 1))
    found = [
        real.distance(rows(80, seed) + 0.3, Bootstrap(np.zeros(80, np.int64), 60, seed=0))
        for seed in range(10, 70)
    ]
    truth = np.mean([value for value, _ in found])
    held = np.mean([interval.low <= truth <= interval.high for _, interval in found])
    assert held >= 0.8  # as in the test of the manifold metrics
