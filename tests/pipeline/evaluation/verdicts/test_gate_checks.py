"""Checks of the gate on synthetic samples, and the reasons of a verdict."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.config import GateRules
from pipeline.evaluation.metrics.frechet import Moments, frechet_distance, project_to_span
from pipeline.evaluation.verdicts.checks import Check
from pipeline.evaluation.verdicts.gate_checks import GateSamples, compute_checks, floor
from pipeline.evaluation.verdicts.gate_documents import RoundVerdict, WeightChecks
from stages.gate.samples import unmeasured_reasons

RANDOM = np.random.default_rng(7)


def images(mean: float, count: int = 40) -> np.ndarray:
    noise = np.random.default_rng(3).normal(size=(count, 2, 2, 1))
    return (mean + 0.1 * noise).astype(np.float32)


def drawn(teacher: float, student: float) -> GateSamples:
    return GateSamples(
        student=images(student), teacher=images(teacher), other=images(teacher)[::-1]
    )


def verdict(found: tuple[WeightChecks, ...], **told: str) -> RoundVerdict:
    return RoundVerdict(title="round 0", num_samples=40, seed=1, found=found, **told)


def test_without_classes_paired_noise_gives_rms_and_nearest_w() -> None:
    sets = {0.0: drawn(0.0, 0.01), 4.0: drawn(0.5, 0.1)}
    good, bad = compute_checks(sets, GateRules(), None, seed=0)
    assert [check.name for check in good.checks] == ["RMS", "w consistency"]
    assert [check.value for check in good.checks] == [pytest.approx(0.01, rel=1e-3), 0]
    assert [check.value for check in bad.checks] == [pytest.approx(0.4, rel=1e-3), 0]
    told = verdict((good, bad))
    assert not told.passed
    assert told.reasons[0] == "RMS 0.4 at w = 4 (at most 0.3)"
    assert "w = 4" in told.reasons[1]
    assert "w = 0" in told.reasons[1]
    assert len(told.reasons) == 2
    assert told.numbers == {"rms": pytest.approx(0.4, rel=1e-3), "w_consistency": 0.5}


def test_a_disabled_check_is_reported_without_a_bound() -> None:
    sets = {0.0: drawn(0.0, 0.01), 4.0: drawn(0.5, 0.1)}
    found = compute_checks(sets, GateRules(rms=False, w_consistency=False), None, seed=0)
    assert verdict(found).passed
    assert [check.most for at in found for check in at.checks] == [None] * 4
    assert verdict(found).numbers["rms"] == pytest.approx(0.4, rel=1e-3)


def test_unpaired_samples_have_no_paired_bounds() -> None:
    far = {w: replace(drawn(0.5, 0.1), is_paired=False) for w in (0.0, 4.0)}
    found = compute_checks(far, GateRules(), None, seed=0)
    assert [[check.name for check in at.checks] for at in found] == [["RMS", "w consistency"]] * 2
    assert not any(check.is_bounded for at in found for check in at.checks)
    assert verdict(found).passed
    assert unmeasured_reasons(far, None)[1] == (
        "RMS and w consistency: the sampler adds noise, so samples are not paired"
    )


def test_a_single_guidance_weight_has_no_check_of_w() -> None:
    (only,) = compute_checks({2.0: drawn(0.5, 0.5)}, GateRules(), None, seed=0)
    assert [check.name for check in only.checks] == ["RMS"]


def test_the_noise_floor_is_the_mean_over_splits() -> None:
    first, second = RANDOM.normal(size=(2, 100, 3))
    found = floor(first, second, seed=5)
    assert found == floor(first, second, seed=5)
    # of many sets of one sampler: the floor of one pair is nearer to their mean than pairs are
    pairs = [RANDOM.normal(size=(2, 100, 3)) for _ in range(40)]
    single = [frechet_distance(Moments.of(one), Moments.of(two)) for one, two in pairs]
    floors = [floor(one, two, seed=5) for one, two in pairs]
    assert np.mean(floors) == pytest.approx(np.mean(single), rel=0.15)
    assert np.std(floors) < 0.6 * np.std(single)


def test_non_finite_values_are_a_reason_and_numbers_are_the_worst_of_each_check() -> None:
    assert verdict((), bad_numbers="weight a is not finite").reasons == ("weight a is not finite",)
    found = tuple(
        WeightChecks(
            w=w,
            checks=(
                Check(name="distance", value=2.5 + w, most=2),
                Check(name="recall", value=0.9 - w / 10, least=0.7),
            ),
        )
        for w in (0.0, 4.0)
    )
    told = verdict(found)
    assert told.numbers == {"distance": 6.5, "recall": pytest.approx(0.5)}
    assert told.reasons[0] == "distance 2.5 times the noise floor at w = 0 (at most 2)"
    assert told.reasons[-1] == "recall 0.5 of the teacher's at w = 4 (at least 0.7)"


def test_projection_to_the_span_preserves_distances() -> None:
    first, second = RANDOM.normal(size=(2, 12, 40))
    one, two = project_to_span(first, second)
    assert one.shape == two.shape == (12, 24)
    far = frechet_distance(Moments.of(first), Moments.of(second))
    # a root of what is 0 but for rounding has half of its digits
    assert frechet_distance(Moments.of(one), Moments.of(two)) == pytest.approx(far, rel=1e-6)
    many = RANDOM.normal(size=(30, 40))
    assert project_to_span(many, many)[0] is many
