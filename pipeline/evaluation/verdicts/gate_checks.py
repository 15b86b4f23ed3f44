"""Checks of a round's student against the round's teacher, on few samples.

The noise floor is the distance of two teacher sets of different noise, which is due to the small
sample size alone. It is averaged over random splits of both sets, because a single split has a
high variance in low-dimensional features.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped] # it has no stubs

from pipeline.config import GateRules
from pipeline.evaluation.metrics.frechet import (
    Features,
    Moments,
    frechet_distance,
    paired_rms,
    project_to_span,
)
from pipeline.evaluation.metrics.halves import HalfSamples
from pipeline.evaluation.metrics.manifold import RealManifold, recall
from pipeline.evaluation.scoring import round_significant
from pipeline.evaluation.verdicts.checks import Check
from pipeline.evaluation.verdicts.gate_documents import (
    DISTANCE,
    RECALL,
    RMS,
    W_CONSISTENCY,
    RoundVerdict,
    WeightChecks,
)
from pipeline.sampling.sampler import Images

_DIVISIONS = 32  # reduces the standard error of the floor to a sixth of that of one split
_MOST = 1e6  # cap of ratios, for a noise floor of 0


@dataclass(frozen=True)
class GateSamples:
    """Samples at one guidance weight; rows have the same classes.

    Attributes:
        student: samples of the student.
        teacher: samples of the teacher, from the student's starting noise.
        other: samples of the teacher, from other noise.
        is_paired: whether both samplers are deterministic given the starting noise. If one of
            them adds noise, rows of student and teacher do not correspond.
    """

    student: Images
    teacher: Images
    other: Images
    is_paired: bool = True

    @property
    def are_finite(self) -> bool:
        """Whether all of the student's samples are finite."""
        return bool(np.isfinite(self.student).all())


@dataclass(frozen=True)
class GateFeatures:
    """Features `[n, d]` of the samples at one guidance weight."""

    student: Features
    teacher: Features
    other: Features


@dataclass(frozen=True)
class GateExtractor:
    """Features of one network for all sample sets.

    Attributes:
        extractor: name of the network; "" for the data set's own classifier.
        read: features of the samples, by guidance weight.
        heldout: manifold of held-out real images in these features; None without real images.
    """

    extractor: str
    read: Mapping[float, GateFeatures]
    heldout: RealManifold | None


def compute_checks(
    drawn: Mapping[float, GateSamples],
    rules: GateRules,
    instrument: GateExtractor | None,
    seed: int,
) -> tuple[WeightChecks, ...]:
    """Compute all checks at every guidance weight; disabled ones are reported without a bound.

    Without features there are only RMS and the check of w, both by paired noise. They have no
    bounds where samples are not paired.

    Args:
        drawn: finite samples, by guidance weight.
        rules: bounds of the checks.
        instrument: features of the samples.
        seed: seed of the random splits for the noise floor.
    """
    if instrument is None:
        return tuple(_by_noise(w, drawn, rules) for w in drawn)
    with threadpool_limits(1, user_api="blas"):
        return tuple(_by_features(w, drawn, rules, instrument, seed) for w in drawn)


def with_bounds(verdict: RoundVerdict, rules: GateRules) -> RoundVerdict:
    """Return a verdict with the bounds of other rules on the same measured values."""
    is_paired = not any(reason.startswith(RMS) for reason in verdict.unmeasured)

    def bounded(check: Check, w: float) -> Check:
        if check.name == W_CONSISTENCY:
            is_measured = not any(W_CONSISTENCY in reason for reason in verdict.unmeasured)
            bound = w if rules.w_consistency and is_measured else None
            return check.model_copy(update={"least": bound, "most": bound})
        if check.name == RECALL:
            return check.model_copy(update={"least": _bound(rules.recall)})
        value = rules.distance if check.name == DISTANCE else is_paired and rules.rms
        return check.model_copy(update={"most": _bound(value)})

    found = tuple(
        WeightChecks(w=at.w, checks=tuple(bounded(check, at.w) for check in at.checks))
        for at in verdict.found
    )
    return verdict.model_copy(update={"found": found})


def _by_noise(w: float, drawn: Mapping[float, GateSamples], rules: GateRules) -> WeightChecks:
    student = drawn[w].student
    nearest = min(drawn, key=lambda other: paired_rms(student, drawn[other].teacher))
    is_bounded = rules.w_consistency and drawn[w].is_paired
    checks = [_rms(drawn[w], rules), *_follows(w, nearest, len(drawn), is_bounded=is_bounded)]
    return WeightChecks(w=w, checks=tuple(checks))


def _by_features(
    w: float,
    drawn: Mapping[float, GateSamples],
    rules: GateRules,
    instrument: GateExtractor,
    seed: int,
) -> WeightChecks:
    read = instrument.read[w]
    distances = {at: _distance(each.other, read.student) for at, each in instrument.read.items()}
    factor = min(distances[w] / max(floor(read.teacher, read.other, seed), 1 / _MOST), _MOST)
    nearest = min(distances, key=distances.__getitem__)
    checks = [
        Check(name=DISTANCE, value=_rounded(factor), most=_bound(rules.distance)),
        _rms(drawn[w], rules),
        *_recall(read, rules, instrument.heldout),
        *_follows(w, nearest, len(drawn), is_bounded=rules.w_consistency),
    ]
    return WeightChecks(w=w, checks=tuple(checks))


def _distance(first: Features, second: Features) -> float:
    one, two = project_to_span(first, second)
    return frechet_distance(Moments.of(one), Moments.of(two))


def floor(first: Features, second: Features, seed: int) -> float:
    """Compute the mean Frechet distance of two sets of one sampler over random splits.

    Row i has the same class in both sets, so that swapping rows keeps the classes balanced.
    """
    random = np.random.default_rng(seed)
    first, second = project_to_span(first, second)
    found = []
    for _ in range(_DIVISIONS):
        swapped = random.random(len(first)) < 0.5
        one = np.where(swapped[:, None], second, first)
        two = np.where(swapped[:, None], first, second)
        found.append(frechet_distance(Moments.of(one), Moments.of(two)))
    return float(np.mean(found))


def _recall(read: GateFeatures, rules: GateRules, heldout: RealManifold | None) -> list[Check]:
    if heldout is None:
        return []
    # the interval is not used, so one split suffices
    once = HalfSamples(labels=np.zeros(len(read.student), np.int64), seed=0, splits=1)
    student, teacher = (
        recall(heldout, features, once).value for features in (read.student, read.teacher)
    )
    return [Check(name=RECALL, value=_ratio(student, teacher), least=_bound(rules.recall))]


def _rms(sets: GateSamples, rules: GateRules) -> Check:
    value = _rounded(paired_rms(sets.student, sets.teacher))
    return Check(name=RMS, value=value, most=_bound(rules.rms) if sets.is_paired else None)


def _follows(w: float, nearest: float, count: int, *, is_bounded: bool) -> list[Check]:
    if count == 1:  # with a single w the nearest one is trivial
        return []
    bound = w if is_bounded else None
    return [Check(name=W_CONSISTENCY, value=nearest, least=bound, most=bound)]


def _bound(value: float | bool) -> float | None:  # noqa: FBT001 (False turns the check off)
    return None if value is False else float(value)


def _ratio(value: float, of: float) -> float:
    """Divide `value` by the teacher's; 1 if the teacher's is 0, which passes every check."""
    return 1.0 if of == 0 else _rounded(value / of)


def _rounded(value: float) -> float:
    return round_significant(min(value, _MOST))
