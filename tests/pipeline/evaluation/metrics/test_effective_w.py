"""The effective guidance weight of samples is recovered, between and beyond the teacher's w."""

import numpy as np
import pytest

from pipeline.evaluation.metrics.effective_w import TeacherSweep
from pipeline.evaluation.metrics.halves import HalfSamples

COUNT = 60
RANDOM = np.random.default_rng(0)
START, SLOPE, BEND = RANDOM.normal(size=(3, COUNT, 4, 4, 1))
LABELS = np.arange(COUNT) % 3
HALVES = HalfSamples(LABELS, seed=0, splits=20)


def samples(w: float) -> np.ndarray:
    """The teacher's samples, which saturate with w and are no spline of it."""
    made = START + SLOPE * np.sqrt(w) + BEND * np.exp(-w)
    return made.astype(np.float32)


def features(w: float, seed: int) -> np.ndarray:
    """Features of samples from other noise, around a mean of each class that follows w."""
    noise = np.random.default_rng(seed).normal(size=(COUNT, 5))
    centres = np.outer(np.log1p(w) * np.arange(1, 4), np.arange(1, 6))
    return centres[LABELS] + 0.5 * noise


def sweep(*weights: float) -> TeacherSweep:
    return TeacherSweep(
        {w: (lambda w=w: samples(w)) for w in weights}, {w: features(w, 1) for w in weights}
    )


@pytest.mark.parametrize("w", [1.0, 1.5, 2.0, 3.0, 4.0])
def test_samples_of_the_teacher_have_their_own_w(w: float) -> None:
    found = sweep(0.0, 1.0, 2.0, 4.0).of_images(samples(w), HALVES)
    assert found.value == pytest.approx(w, rel=0.03)
    noisy = samples(w) + 0.3 * np.random.default_rng(3).normal(size=START.shape)
    found = sweep(0.0, 1.0, 2.0, 4.0).of_images(noisy.astype(np.float32), HALVES)
    _, interval = found.estimate()
    assert interval.low < w < interval.high
    assert interval.high - interval.low < 0.4 * w


def test_a_student_that_is_guided_less_is_measured_so() -> None:
    teacher = sweep(0.0, 2.0, 4.0)
    assert teacher.of_images(samples(3.4), HALVES).value == pytest.approx(3.4, abs=0.1)
    assert teacher.of_images(samples(0.0), HALVES).value == pytest.approx(0, abs=0.01)
    assert teacher.of_images(samples(4.4), HALVES).value == pytest.approx(4.4, abs=0.2)


def test_samples_from_other_noise_are_matched_by_class_means_of_features() -> None:
    found = sweep(0.0, 1.0, 4.0).of_features(features(2.0, seed=2), HALVES)
    assert found.value == pytest.approx(2.0, rel=0.05)
    # classes count: the mean over all is that of another w
    swapped = features(2.0, seed=2)[np.argsort(LABELS, kind="stable")]
    assert sweep(0.0, 1.0, 4.0).of_features(swapped, HALVES).value < 1.8


def test_with_a_single_w_there_is_nothing_to_match() -> None:
    assert sweep(2.0).of_images(samples(2.0), HALVES) is None
    assert sweep(2.0).of_features(features(2.0, 1), HALVES) is None
