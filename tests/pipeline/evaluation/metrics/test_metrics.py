"""Every metric on a case with a known result."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from pipeline.evaluation.metrics.bootstrap import Bootstrap
from pipeline.evaluation.metrics.frechet import (
    Moments,
    class_accuracies,
    class_accuracy,
    frechet_distance,
    frechet_estimate,
    inception_type_score,
    neighbour_distance,
    paired_rms,
)


def rows(count: int, size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, size))


def test_frechet_distance_of_gaussians_of_one_dimension_is_the_closed_form() -> None:
    first = Moments(np.array([1.0]), np.array([[4.0]]))
    second = Moments(np.array([-2.0]), np.array([[9.0]]))
    # squared difference of the means, and of the standard deviations 2 and 3
    assert frechet_distance(first, second) == pytest.approx(9 + 1, abs=1e-12)


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


def test_a_bootstrap_interval_holds_the_measured_value_and_narrows_with_more_samples() -> None:
    reference = Moments.of(rows(4000, 4, 1) + 1)
    widths = []
    for count in (100, 1600):
        features, labels = rows(count, 4, 2), np.arange(count) % 2
        found, interval = frechet_estimate(reference, features, Bootstrap(labels, 200, seed=0))
        measured = frechet_distance(reference, Moments.of(features))
        assert found == pytest.approx(measured, rel=1e-12)
        assert interval.low < measured < interval.high
        widths.append(interval.high - interval.low)
    # standard errors go as 1 / sqrt(n): a factor of 4, known to about a fifth
    assert widths[0] / widths[1] == pytest.approx(4, rel=0.35)


def test_a_bootstrap_resamples_within_classes() -> None:
    # two classes far apart, each a point: nothing varies if the balance of classes does not
    labels = np.repeat([0, 1], 50)
    features = labels[:, None] * np.array([[10.0, 0.0]])
    _, interval = frechet_estimate(Moments.of(rows(99, 2)), features, Bootstrap(labels, 20, seed=0))
    assert interval.high - interval.low < 1e-9


def test_inception_type_score_counts_distinguishable_classes() -> None:
    assert inception_type_score(np.eye(7).repeat(3, 0)) == pytest.approx(7)
    assert inception_type_score(np.full((9, 7), 1 / 7)) == pytest.approx(1)
    assert inception_type_score(np.tile(np.eye(7)[2], (9, 1))) == pytest.approx(1)


def test_class_accuracy_is_a_share() -> None:
    probabilities = np.eye(4)[[0, 1, 2, 2]]
    assert class_accuracy(probabilities, np.array([0, 1, 2, 3])) == 0.75


def test_class_accuracies_are_shares_of_their_classes_and_of_no_other() -> None:
    probabilities, labels = np.eye(5)[[0, 1, 4, 0, 0, 0]], np.array([0, 1, 1, 3, 3, 0])
    found = class_accuracies(probabilities, labels)
    assert found == {0: 1.0, 1: 0.5, 3: 0.0}


def test_with_fewer_rows_than_features_the_distance_is_the_same() -> None:
    reference, features = Moments.of(rows(90, 30, 1) * 1.3), rows(20, 30, 2) + 0.2
    bootstrap = Bootstrap(np.arange(20) % 2, 30, seed=3)
    found, interval = frechet_estimate(reference, features, bootstrap)
    # the full matrix has roots of zeros that are 1e-8 by rounding
    assert found == pytest.approx(frechet_distance(reference, Moments.of(features)), rel=1e-7)
    slow = bootstrap.of(lambda drawn: frechet_distance(reference, Moments.of(features[drawn])))[1]
    assert interval.low == pytest.approx(slow.low, rel=1e-7)
    assert interval.high == pytest.approx(slow.high, rel=1e-7)


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
