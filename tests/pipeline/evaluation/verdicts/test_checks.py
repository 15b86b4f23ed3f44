"""Verdicts on students: each check detects a fault that the others miss."""

import numpy as np
import pytest

from pipeline.evaluation.dataset_images import class_means
from pipeline.evaluation.metrics.bootstrap import Bootstrap
from pipeline.evaluation.metrics.frechet import Moments
from pipeline.evaluation.scores import Scores
from pipeline.evaluation.scoring import TeacherReference
from pipeline.evaluation.verdicts.checks import Check, check_samples

TEACHER = Scores(
    distance_to_real=2.0,
    distance_to_real_interval=(1.9, 2.1),
    distance_to_teacher=0.1,
    distance_to_teacher_interval=(0.09, 0.11),
    nearest_teacher_w=2.0,
    class_accuracy=1.0,
    inception_score=9.5,
    precision=0.9,
    recall=0.8,
    rms_to_teacher=0.0,
    nearest_training=0.2,
)
GOOD = TEACHER.model_copy(update={"distance_to_teacher": 0.12, "rms_to_teacher": 0.1})


def failed(w: float = 2.0, **changes: float) -> tuple[str, ...]:
    return check_samples("student", "it", w, GOOD.model_copy(update=changes), TEACHER).failed


def test_a_student_as_good_as_its_teacher_passes() -> None:
    verdict = check_samples("student", "it", 2.0, GOOD, TEACHER)
    assert verdict.passed
    assert verdict.floor_factor == pytest.approx(1.2)
    assert verdict.scores is None  # they are in its row


@pytest.mark.parametrize(
    ("changes", "caught"),
    [
        ({"distance_to_real": 2.21}, "distance"),
        ({"inception_score": 9.2}, "score"),
        ({"inception_score": 9.8}, "score"),
        ({"recall": 0.71}, "recall"),
        ({"class_accuracy": 0.97}, "accuracy"),
        ({"nearest_training": 0.19}, "not copied"),
        ({"rms_to_teacher": 0.151}, "RMS"),
        ({"nearest_teacher_w": 0.0}, "w consistency"),
    ],
)
def test_one_fault_fails_one_check(changes: dict[str, float], caught: str) -> None:
    assert failed(**changes) == (caught,)


def test_a_better_distance_does_not_excuse_a_student_that_ignores_w() -> None:
    found = failed(distance_to_real=0.6, nearest_teacher_w=0.0, rms_to_teacher=0.3, recall=0.9)
    assert found == ("RMS", "w consistency")


def test_unpaired_samples_are_checked_by_all_but_rms() -> None:
    far = {"rms_to_teacher": 0.9}
    assert failed(**far) == ("RMS",)
    apart = check_samples(
        "student", "it", 2.0, GOOD.model_copy(update=far), TEACHER, is_paired=False
    )
    assert apart.passed
    assert [check.name for check in apart.checks if not check.is_bounded] == ["RMS"]
    ignorant = GOOD.model_copy(update={**far, "nearest_teacher_w": 0.0, "recall": 0.1})
    found = check_samples("student", "it", 2.0, ignorant, TEACHER, is_paired=False)
    assert found.failed == ("recall", "w consistency")


def test_without_guidance_the_distance_may_be_a_fifth_larger() -> None:
    assert failed(0.0, distance_to_real=2.39, nearest_teacher_w=0.0, inception_score=9.1) == ()
    assert failed(0.0, distance_to_real=2.41, nearest_teacher_w=0.0) == ("distance",)


def test_a_teacher_without_recall_requires_none() -> None:
    nothing = TEACHER.model_copy(update={"recall": 0.0})
    assert check_samples("student", "it", 2.0, GOOD, nothing).passed


def test_bounds_are_inclusive() -> None:
    assert Check(name="x", value=1.0, least=1.0, most=1.0).passed
    assert not Check(name="x", value=1.0, least=1.01).passed
    assert not Check(name="x", value=1.01, most=1.0).passed


def test_the_nearest_teacher_is_found_among_all_weights() -> None:
    def around(mean: float) -> Moments:
        return Moments(np.full(2, mean), np.eye(2))

    at = {0.0: around(0.0), 1.0: around(1.0), 4.0: around(4.0)}
    teacher = TeacherReference(w=4.0, samples=np.zeros((1, 1, 1, 1), np.float32), noise_floors=at)
    assert teacher.noise_floor is at[4.0]
    assert teacher.nearest_w(around(0.6)) == 1.0
    assert teacher.nearest_w(around(9.0)) == 4.0


def test_class_means_are_the_means_of_the_classes() -> None:
    images = np.arange(6, dtype=np.float32).reshape(6, 1, 1, 1)
    means = class_means(images, np.array([0, 1, 0, 1, 0, 1]))
    assert means.reshape(-1).tolist() == [2.0, 3.0]


def test_a_bootstrap_interval_covers_the_mean_of_a_known_law() -> None:
    # 200 draws of N(0, 1) around 5: the standard error of the mean is 1 / sqrt(200) = .071
    values = 5 + np.random.default_rng(0).normal(size=200)
    mean, found = Bootstrap(np.zeros(200, np.int64), 400, seed=0).mean(values)
    assert mean == values.mean()
    assert found.low < values.mean() < found.high
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.0707, rel=0.2)


@pytest.mark.parametrize("members", [1, 2, 5])
def test_few_samples_a_class_make_no_interval_too_narrow(members: int) -> None:
    """Classes of one sample are pooled, so intervals include the variance between classes."""
    classes, trials, random = 40, 200, np.random.default_rng(0)
    labels = np.repeat(np.arange(classes), members)
    covered = 0
    for seed in range(trials):
        values = random.normal(size=classes * members)
        _, found = Bootstrap(labels, 100, seed).mean(values, least=None)
        covered += found.low <= 0 <= found.high
    # 95 % less what 100 resamples and 40 degrees of freedom cost, about 2 %, less three standard
    # errors of 200 trials, 4.6 %; drawing 2 of 2 without a correction gives 80 %
    assert covered / trials > 0.88
