"""Precision, recall, density and coverage on hand-made points, and against prdc."""

import numpy as np
import pytest
from prdc import compute_prdc

from pipeline.evaluation.metrics.bootstrap import Bootstrap
from pipeline.evaluation.metrics.frechet import distances, neighbour_distance
from pipeline.evaluation.metrics.manifold import Neighbourhood, RealManifold, neighbourhood


def rows(count: int, size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, size))


def found(real: np.ndarray, samples: np.ndarray, resamples: int = 5) -> Neighbourhood:
    bootstrap = Bootstrap(np.zeros(len(samples), np.int64), resamples, seed=0)
    return neighbourhood(RealManifold.of(real), samples, bootstrap)


def precision_recall(real: np.ndarray, samples: np.ndarray) -> tuple[float, float]:
    among = found(real, samples)
    return among.precision[0], among.recall[0]


def test_equal_sets_have_full_precision_and_recall_and_distant_sets_none() -> None:
    real = rows(60, 3)
    assert precision_recall(real, real) == (1, 1)
    assert precision_recall(real, real + 100) == (0, 0)


def test_samples_of_one_mode_out_of_two_are_precise_and_miss_half() -> None:
    real = np.concatenate([rows(200, 2, 1), rows(200, 2, 2) + 50])
    precision, recall = precision_recall(real, rows(200, 2, 3))
    assert precision > 0.8
    assert 0.35 < recall <= 0.5


def test_class_means_are_precise_but_have_no_recall() -> None:
    real = rows(500, 8)
    precision, recall = precision_recall(real, np.zeros((500, 8)) + 1e-3 * rows(500, 8, 1))
    assert precision == 1
    assert recall < 0.01


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
    for share in (among.precision, among.recall, among.coverage):
        assert 0 <= share[1].low <= share[0] <= share[1].high <= 1
    assert found(real, real, resamples=50).recall[1].high == 1


@pytest.mark.parametrize("shift", [0.0, 0.4])
def test_they_are_those_of_prdc(shift: float, capsys: pytest.CaptureFixture[str]) -> None:
    real, samples = rows(150, 4, 1), rows(90, 4, 2) + shift
    among = found(real, samples)
    near, far = (compute_prdc(real, samples, nearest_k=k) for k in (3, 5))
    assert among.precision[0] == pytest.approx(near["precision"], abs=1e-12)
    assert among.recall[0] == pytest.approx(near["recall"], abs=1e-12)
    assert among.density[0] == pytest.approx(far["density"], abs=1e-12)
    assert among.coverage[0] == pytest.approx(far["coverage"], abs=1e-12)


def test_shares_of_resamples_are_those_of_whole_matrices_to_the_last_bit() -> None:
    real, samples = rows(61, 3, 1), rows(90, 3, 2) + 0.4
    bootstrap = Bootstrap(np.arange(90) % 2, 20, seed=0)
    apart = distances(samples, real)
    inside = {
        "recall": apart <= neighbour_distance(samples, samples, 4)[:, None],
        "coverage": apart <= neighbour_distance(real, real, 6),
    }
    among = neighbourhood(RealManifold.of(real), samples, bootstrap)
    for name, matrix in inside.items():

        def share(drawn: np.ndarray, matrix: np.ndarray = matrix) -> float:
            return float(matrix[drawn].any(0).mean())

        assert getattr(among, name) == bootstrap.of(share, most=1.0)


def test_intervals_hold_the_mean_over_many_sets() -> None:
    real = RealManifold.of(rows(60, 3, 1))
    sets = [rows(40, 3, seed) + 0.3 for seed in range(100, 160)]
    bootstrap = Bootstrap(np.zeros(40, np.int64), 60, seed=0)
    found = [neighbourhood(real, each, bootstrap) for each in sets]
    for name in ("precision", "recall", "density", "coverage"):
        values = [getattr(each, name) for each in found]
        truth = np.mean([value for value, _ in values])
        held = np.mean([interval.low <= truth <= interval.high for _, interval in values])
        # a bootstrap of so few holds it somewhat less often than the 95 % it promises; if that is
        # 92 %, fewer than 80 % of 60 sets hold it once in 3,000 times
        assert held >= 0.8, name
