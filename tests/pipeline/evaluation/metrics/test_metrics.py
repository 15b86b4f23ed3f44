"""Every metric of sample sets: known results, and comparison with libraries."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from prdc import compute_prdc
from scipy.linalg import sqrtm
from torchmetrics.image.kid import poly_mmd

from pipeline.evaluation.metrics.bootstrap import Bootstrap
from pipeline.evaluation.metrics.frechet import (
    Moments,
    distances,
    frechet_distance,
    frechet_replicates,
    inception_type_score,
    is_correct,
    neighbour_distance,
    paired_rms,
)
from pipeline.evaluation.metrics.halves import HalfSamples
from pipeline.evaluation.metrics.kid import KernelReference
from pipeline.evaluation.metrics.manifold import (
    Neighbourhood,
    RealManifold,
    neighbourhood,
    recall,
)


def rows(count: int, size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, size))


def one_class(count: int, resamples: int) -> Bootstrap:
    return Bootstrap(np.zeros(count, np.int64), resamples, seed=0)


def half(count: int, splits: int) -> HalfSamples:
    return HalfSamples(np.zeros(count, np.int64), seed=0, splits=splits)


@given(st.integers(0, 10_000), st.integers(2, 6))
def test_frechet_distance_agrees_with_the_textbook_matrix_root(seed: int, size: int) -> None:
    # the textbook root loses digits on singular covariances, so these are not
    first, second = Moments.of(rows(40, size, seed)), Moments.of(2 * rows(40, size, seed + 1) + 1)
    root = np.real(sqrtm(first.covariance @ second.covariance))
    textbook = np.sum((first.mean - second.mean) ** 2) + np.trace(
        first.covariance + second.covariance - 2 * root
    )
    assert frechet_distance(first, second) == pytest.approx(float(textbook), rel=1e-8)


@given(st.integers(0, 10_000))
def test_frechet_distance_is_symmetric_and_zero_for_equal_sets(seed: int) -> None:
    first, second = Moments.of(rows(20, 5, seed)), Moments.of(rows(30, 5, seed + 1))
    assert frechet_distance(first, second) == pytest.approx(frechet_distance(second, first))
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-10)


def test_a_shift_costs_its_squared_length_even_where_features_never_vary() -> None:
    features = rows(50, 8)
    features[:, 5:] = 0  # without full rank, where a general matrix root fails
    shift = np.arange(8.0)
    shifted = frechet_distance(Moments.of(features), Moments.of(features + shift))
    assert shifted == pytest.approx(float(shift @ shift), rel=1e-9)
    # in one dimension: squared difference of the means, and of the standard deviations 2 and 3
    first = Moments(np.array([1.0]), np.array([[4.0]]))
    second = Moments(np.array([-2.0]), np.array([[9.0]]))
    assert frechet_distance(first, second) == pytest.approx(9 + 1, abs=1e-12)


@pytest.mark.parametrize(("count", "size"), [(40, 1), (2300, 30)])
def test_moments_are_those_of_numpy_to_the_last_bit(count: int, size: int) -> None:
    features = rows(count, size).astype(np.float32)
    drawn = np.random.default_rng(1).integers(0, count, count)
    for found, of in (
        (Moments.of(features), features),
        (Moments.of_rows(features, drawn), features[drawn]),
    ):
        wide = of.astype(np.float64)
        np.testing.assert_array_equal(found.mean, wide.mean(0))
        np.testing.assert_array_equal(found.covariance, np.atleast_2d(np.cov(wide, rowvar=False)))


def test_inception_type_score_counts_distinguishable_classes() -> None:
    assert inception_type_score(np.eye(7).repeat(3, 0)) == pytest.approx(7)
    assert inception_type_score(np.full((9, 7), 1 / 7)) == pytest.approx(1)
    assert inception_type_score(np.tile(np.eye(7)[2], (9, 1))) == pytest.approx(1)


def test_a_sample_is_correct_if_classified_as_its_class() -> None:
    probabilities, labels = np.eye(5)[[0, 1, 4, 0, 0, 0]], np.array([0, 1, 1, 3, 3, 0])
    assert is_correct(probabilities, labels).tolist() == [True, True, False, False, False, True]


def test_with_fewer_rows_than_features_the_distance_is_the_same() -> None:
    reference, features = Moments.of(rows(90, 30, 1) * 1.3), rows(20, 30, 2) + 0.2
    halves = HalfSamples(np.arange(20) % 2, seed=3)
    found = frechet_replicates(reference, features, halves)
    # the full matrix has roots of zeros that are 1e-8 by rounding
    slow = halves.of(lambda drawn: frechet_distance(reference, Moments.of(features[drawn])))
    assert found.value == pytest.approx(slow.value, rel=1e-7)
    np.testing.assert_allclose(found.first, slow.first, rtol=1e-7)
    np.testing.assert_allclose(found.second, slow.second, rtol=1e-7)


def test_neighbour_distances_are_the_sorted_distances_chunk_by_chunk() -> None:
    points, among = rows(2300, 2), rows(7, 2, 1)
    expected = np.sort(np.linalg.norm(points[:, None] - among, axis=2), axis=1)
    for k in (1, 3, 7):
        found = neighbour_distance(points, among, k)
        np.testing.assert_allclose(found, expected[:, k - 1], atol=1e-7)
    with pytest.raises(ValueError, match=r"8.* 7"):
        neighbour_distance(points, among, 8)


def test_paired_rms_is_over_all_values() -> None:
    first = np.zeros((2, 1, 2, 1), np.float32)
    second = np.array([3, 0, 0, 1], np.float32).reshape(first.shape)
    assert paired_rms(first, second) == pytest.approx(np.sqrt(10 / 4))


def found(real: np.ndarray, samples: np.ndarray, resamples: int = 5) -> Neighbourhood:
    count = len(samples)
    drawn = one_class(count, resamples), half(count, resamples)
    return neighbourhood(RealManifold.of(real), samples, *drawn)


def test_density_and_coverage_of_points_on_a_line() -> None:
    # real points at 0 .. 9: the fifth neighbour of 0 and 9 is 5 away, of 1 and 8 is 4 away, of 2
    # and 7 is 3 away, and of 3 .. 6 too (two on each side, then a third)
    real = np.arange(10.0)[:, None]
    samples = np.array([[-4.5], [20.0], [4.5], [4.5]])
    among = found(real, samples)
    # -4.5 lies in the ball of 0 alone; 20 in none; 4.5 in those of 0 .. 9 that reach it:
    # 0 (4.5 <= 5), 1 (3.5 <= 4), 2 (2.5 <= 3), 3, 4, and the same from the other end
    assert among.density[0] == pytest.approx((1 + 0 + 10 + 10) / (5 * 4), abs=1e-12)
    assert among.coverage[0] == 1
    assert found(real, samples[:2]).coverage[0] == pytest.approx(1 / 10, abs=1e-12)
    assert found(real, samples[1:2].repeat(2, 0)).density[0] == 0


def test_no_share_is_above_1_and_none_below_0() -> None:
    real = rows(60, 3)
    among = found(real, rows(30, 3, 1), resamples=50)
    for share in (among.precision, among.recall.estimate(most=1.0), among.coverage):
        assert 0 <= share[1].low <= share[0] <= share[1].high <= 1
    assert found(real, real, resamples=50).recall.estimate(most=1.0)[1].high == 1


@pytest.mark.parametrize("shift", [0.0, 0.4])
def test_they_are_those_of_prdc(shift: float) -> None:
    real, samples = rows(150, 4, 1), rows(90, 4, 2) + shift
    among = found(real, samples)
    near, far = (compute_prdc(real, samples, nearest_k=k) for k in (3, 5))
    assert among.recall.value == pytest.approx(near["recall"], abs=1e-12)
    for name, theirs in (
        ("precision", near),
        ("density", far),
        ("coverage", far),
    ):
        assert getattr(among, name)[0] == pytest.approx(theirs[name], abs=1e-12)


def test_recall_of_halves_is_that_of_whole_matrices_to_the_last_bit() -> None:
    real, samples = rows(61, 3, 1), rows(90, 3, 2) + 0.4
    samples[:3] = samples[0]  # a ball of radius 0
    halves = HalfSamples(np.arange(90) % 2, seed=0, splits=20)

    def share(drawn: np.ndarray) -> float:
        own = samples[drawn]
        return float(
            (distances(own, real) <= neighbour_distance(own, own, 4)[:, None]).any(0).mean()
        )

    found = recall(RealManifold.of(real), samples, halves)
    expected = halves.of(share)
    assert found.value == expected.value
    np.testing.assert_array_equal(found.first, expected.first)
    np.testing.assert_array_equal(found.second, expected.second)


def test_coverage_of_resamples_is_that_of_the_whole_matrix_to_the_last_bit() -> None:
    real, samples = rows(61, 3, 1), rows(90, 3, 2) + 0.4
    bootstrap = Bootstrap(np.arange(90) % 2, 20, seed=0)
    inside = distances(samples, real) <= neighbour_distance(real, real, 6)
    among = neighbourhood(RealManifold.of(real), samples, bootstrap, half(90, 2))
    assert among.coverage == bootstrap.of(
        lambda drawn: float(inside[drawn].any(0).mean()), most=1.0
    )


def kid(real: np.ndarray, samples: np.ndarray) -> float:
    reference = KernelReference(real, np.zeros(len(real), np.int64))
    return reference.distance(samples, half(len(samples), 3)).value


def kernel(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return (first @ second.T / 6 + 1) ** 3


def off_diagonal(points: np.ndarray) -> float:
    of = kernel(points, points)
    return (of.sum() - np.trace(of)) / (len(of) * (len(of) - 1))


def test_a_kernel_distance_is_the_librarys_where_both_sets_are_of_one_size() -> None:
    real, samples = rows(50, 6, 0), rows(50, 6, 1) + 0.3
    theirs = float(poly_mmd(torch.from_numpy(real), torch.from_numpy(samples)))
    assert kid(real, samples) == pytest.approx(theirs, rel=1e-12)


def test_a_kernel_distance_of_different_sizes_is_as_written() -> None:
    real, samples = rows(1100, 6, 0), rows(7, 6, 1)  # more than one chunk
    expected = off_diagonal(real) + off_diagonal(samples) - 2 * kernel(real, samples).mean()
    assert kid(real, samples) == pytest.approx(expected, rel=1e-9)


def test_kernel_distances_of_one_distribution_are_at_0_in_the_mean_and_below_it_as_often() -> None:
    found = np.array([kid(rows(60, 6, 2 * seed), rows(60, 6, 2 * seed + 1)) for seed in range(200)])
    assert abs(found.mean()) < 4 * found.std() / np.sqrt(len(found))
    assert 0.25 < (found < 0).mean() < 0.75
