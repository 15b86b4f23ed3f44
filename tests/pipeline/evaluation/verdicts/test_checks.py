"""Verdicts of report and gate: each check detects a fault that the others miss."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.config import GateRules
from pipeline.evaluation.dataset_images import class_means
from pipeline.evaluation.metrics.bootstrap import Bootstrap, Interval
from pipeline.evaluation.metrics.real import RealImages
from pipeline.evaluation.scores import Scores
from pipeline.evaluation.verdicts.checks import Check, Verdict, check_samples, needed_text
from pipeline.evaluation.verdicts.gate_checks import (
    GateExtractor,
    GateFeatures,
    GateSamples,
    compute_checks,
    with_bounds,
)
from pipeline.evaluation.verdicts.gate_documents import RoundVerdict, WeightChecks
from stages.gate.gate_samples import unmeasured_reasons

TEACHER = Scores(
    distance_to_real=2.0,
    distance_to_real_interval=(1.9, 2.1),
    distance_to_teacher=0.1,
    distance_to_teacher_interval=(0.09, 0.11),
    effective_w=2.0,
    class_accuracy=1.0,
    inception_score=9.5,
    precision=0.9,
    recall=0.8,
    rms_to_teacher=0.0,
    nearest_training=0.2,
)
GOOD = TEACHER.model_copy(update={"distance_to_teacher": 0.12, "rms_to_teacher": 0.1})
NAMES = ("distance", "score", "recall", "accuracy", "not copied")


def estimate(value: float, width: float = 0.0) -> tuple[float, Interval]:
    return value, Interval(value - width, value + width)


def judged(
    w: float = 2.0, *, is_paired: bool = True, scores: Scores = GOOD, **relative: float
) -> Verdict:
    """Judge numbers relative to the teacher's, without an interval."""
    found = {name: estimate(relative.get(name.replace(" ", "_"), 1.0)) for name in NAMES}
    return check_samples("student", "it", w, scores, TEACHER, found, is_paired=is_paired)


def scored(**changes: float) -> Scores:
    return GOOD.model_copy(update=changes)


def test_a_student_as_good_as_its_teacher_passes() -> None:
    assert judged().passed
    assert judged().floor_factor == pytest.approx(1.2)
    assert judged().scores is None  # they are in its row


@pytest.mark.parametrize(
    ("relative", "changes", "caught"),
    [
        ({"distance": 1.11}, {}, "distance"),
        ({"distance": 0.89}, {}, "distance"),
        ({"score": 0.96}, {}, "score"),
        ({"score": 1.04}, {}, "score"),
        ({"recall": 0.89}, {}, "recall"),
        ({"accuracy": 0.97}, {}, "accuracy"),
        ({"not_copied": 0.95}, {}, "not copied"),
        ({}, {"rms_to_teacher": 0.151}, "RMS"),
        ({}, {"effective_w": 1.79}, "effective w"),
        ({}, {"effective_w": 2.21}, "effective w"),
    ],
)
def test_one_fault_fails_one_check(
    relative: dict[str, float], changes: dict[str, float], caught: str
) -> None:
    assert judged(scores=scored(**changes), **relative).failed == (caught,)


def test_a_better_distance_does_not_excuse_a_student_that_ignores_w() -> None:
    ignorant = scored(effective_w=0.1, rms_to_teacher=0.3)
    found = judged(scores=ignorant, distance=0.3, recall=1.1)
    assert found.failed == ("distance", "RMS", "effective w")


def test_unpaired_samples_are_checked_by_all_but_rms() -> None:
    apart = judged(scores=scored(rms_to_teacher=0.9), is_paired=False)
    assert apart.passed
    assert [check.name for check in apart.checks if not check.is_bounded] == ["RMS"]
    ignorant = scored(rms_to_teacher=0.9, effective_w=0.0)
    assert judged(scores=ignorant, recall=0.1, is_paired=False).failed == ("recall", "effective w")


def test_without_guidance_the_distance_may_be_a_fifth_larger_and_w_has_no_bound() -> None:
    assert judged(0.0, distance=1.19, scores=scored(effective_w=0.2), score=0.96).passed
    assert judged(0.0, distance=0.5).passed
    assert judged(0.0, distance=1.21).failed == ("distance",)


def test_a_check_has_three_answers_with_the_number_of_samples_that_would_tell() -> None:
    def check(value: float, width: float, **bounds: float) -> Check:
        ends = (value - width, value + width)
        return Check(name="x", value=value, interval=ends, **bounds)

    assert check(1.0, 0.05, most=1.1).answer == "yes"
    assert check(1.3, 0.15, most=1.1).answer == "no"
    # .2 above the bound is known to .4: twice as wide as it may be, so four times the samples
    undecided = check(1.3, 0.4, most=1.1)
    assert undecided.answer == "cannot tell"
    assert undecided.samples_needed(500) == 2000
    assert not undecided.passed  # by its value alone
    inside = check(1.0, 0.3, least=0.9, most=1.2)
    assert (inside.answer, inside.passed) == ("cannot tell", True)
    assert inside.samples_needed(500) == 4500  # by the nearer of both bounds
    assert check(1.1, 0.3, most=1.1).samples_needed(500) is None
    assert check(1.0, 0.05, most=1.1).samples_needed(500) is None
    verdict = Verdict(
        judged="student", title="it", w=2, floor_factor=None, checks=(undecided, inside)
    )
    assert (verdict.answer, verdict.passed, verdict.failed) == ("cannot tell", False, ())
    assert verdict.samples_needed(500) == 4500
    assert needed_text(4500) == "about 4,500 samples would tell"
    assert needed_text(None) == "more than a million samples would tell"


def test_bounds_are_inclusive() -> None:
    assert Check(name="x", value=1.0, least=1.0, most=1.0).passed
    assert not Check(name="x", value=1.0, least=1.01).passed
    assert not Check(name="x", value=1.01, most=1.0).passed


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
    classes, trials, random = 40, 120, np.random.default_rng(0)
    labels = np.repeat(np.arange(classes), members)
    covered = 0
    for seed in range(trials):
        values = random.normal(size=classes * members)
        _, found = Bootstrap(labels, 100, seed).mean(values, least=None)
        covered += found.low <= 0 <= found.high
    # 95 % less what 100 resamples and 40 degrees of freedom cost, about 2 %, less two and a half
    # standard errors of 120 trials, 5 %; drawing 2 of 2 without a correction gives 80 %
    assert covered / trials > 0.88


def images(mean: float, count: int = 40) -> np.ndarray:
    noise = np.random.default_rng(3).normal(size=(count, 2, 2, 1))
    return (mean + 0.1 * noise).astype(np.float32)


def drawn(teacher: float, student: float, count: int = 40) -> GateSamples:
    taught = images(teacher, count)
    return GateSamples(student=images(student, count), teacher=taught, other=taught[::-1])


SETS = {0.0: drawn(0.0, 0.01), 4.0: drawn(0.5, 0.1)}


def round_verdict(found: tuple[WeightChecks, ...], **told: str) -> RoundVerdict:
    return RoundVerdict(title="round 0", num_samples=40, seed=1, found=found, **told)


def test_without_classes_paired_noise_gives_rms_and_the_effective_w() -> None:
    good, bad = compute_checks(SETS, GateRules(), None, seed=0)
    assert [check.name for check in good.checks] == ["RMS", "effective w"]
    # between samples at w = 0 and 4, in log(1 + w): 5^(.1 / .5) - 1 = .38
    assert [check.value for check in good.checks] == pytest.approx([0.01, 0.033], abs=2e-3)
    assert [check.value for check in bad.checks] == pytest.approx([0.4, 0.38], abs=2e-3)
    told = round_verdict((good, bad))
    assert not told.passed
    assert told.reasons == (
        "RMS 0.4 (0.4 to 0.4) at w = 4 (at most 0.3)",
        "effective w 0.38 (0.38 to 0.38) at w = 4 (3 to 5)",
    )
    assert told.numbers == pytest.approx({"rms": 0.4, "effective_w": 0.905}, abs=2e-3)
    # a single guidance weight has no check of w
    (only,) = compute_checks({2.0: drawn(0.5, 0.5)}, GateRules(), None, seed=0)
    assert [check.name for check in only.checks] == ["RMS"]


def test_a_disabled_check_is_reported_without_a_bound() -> None:
    found = compute_checks(SETS, GateRules(rms=False, effective_w=False), None, seed=0)
    assert round_verdict(found).passed
    assert [check.most for at in found for check in at.checks] == [None] * 4
    assert round_verdict(found).numbers["rms"] == pytest.approx(0.4, rel=1e-3)


def test_unpaired_samples_have_no_paired_bounds() -> None:
    far = {w: replace(drawn(0.5, 0.1), is_paired=False) for w in (0.0, 4.0)}
    found = compute_checks(far, GateRules(), None, seed=0)
    assert [[check.name for check in at.checks] for at in found] == [["RMS"]] * 2
    assert not any(check.is_bounded for at in found for check in at.checks)
    assert round_verdict(found).passed
    assert unmeasured_reasons(far, None)[1] == (
        "RMS and effective w: the sampler adds noise, so samples are not paired"
    )


def test_the_gate_measures_the_distance_of_a_report_and_names_what_cannot_be_told() -> None:
    """Another number of samples gives the same value; the noise floor, the earlier unit, halves."""
    values = []
    for count in (60, 240):
        random = np.random.default_rng(0)
        labels = np.zeros(count, np.int64)
        teacher = random.normal(size=(count, 6)) + 0.6
        read = GateFeatures(teacher * 1.1 + 0.3, teacher, random.normal(size=(count, 6)) + 0.6)
        real = RealImages(random.normal(size=(200, 6)), np.zeros(200, np.int64))
        instrument = GateExtractor("", {2.0: read}, labels, real)
        sets = {2.0: drawn(0.5, 0.5, count)}
        (found,) = compute_checks(sets, GateRules(recall=False), instrument, seed=0)
        distance = found.checks[0]
        assert (distance.name, distance.least, distance.most) == ("relative distance", 0.5, 1.5)
        values.append(distance.value)
    assert values[0] == pytest.approx(values[1], rel=0.15)
    # with another bound, the same value cannot be told from it
    verdict = round_verdict((found,)).model_copy(update={"num_samples": 240})
    value = distance.value
    near = with_bounds(verdict, GateRules(relative_distance=value + 0.01, recall=False))
    assert near.passed
    (told,) = near.undecided
    assert "240 samples cannot tell, about " in told
    assert told.startswith(f"relative distance {value:.3g} (")
    assert not with_bounds(verdict, GateRules(relative_distance=value - 0.01)).passed


def test_non_finite_values_are_a_reason_and_numbers_are_the_worst_of_each_check() -> None:
    assert round_verdict((), bad_numbers="weight a is not finite").reasons == (
        "weight a is not finite",
    )
    found = tuple(
        WeightChecks(
            w=w,
            checks=(
                Check(name="relative distance", value=2.5 + w, most=2),
                Check(name="recall", value=0.9 - w / 10, least=0.7),
            ),
        )
        for w in (0.0, 4.0)
    )
    told = round_verdict(found)
    assert told.numbers == {"relative_distance": 6.5, "recall": pytest.approx(0.5)}
    assert told.reasons[0] == "relative distance 2.5 at w = 0 (at most 2)"
    assert told.reasons[-1] == "recall 0.5 of the teacher's at w = 4 (at least 0.7)"
