"""Checks of a round's student against the round's teacher, on few samples.

Distance and recall are relative to the teacher's, from the same classes and noise, as in a report.
"""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped] # it has no stubs

from pipeline.config import GateRules
from pipeline.config.gate import Bound
from pipeline.evaluation.documents import RESAMPLES
from pipeline.evaluation.metrics.bootstrap import Bootstrap, Estimate
from pipeline.evaluation.metrics.effective_w import TeacherSweep
from pipeline.evaluation.metrics.frechet import Features
from pipeline.evaluation.metrics.halves import HalfSamples
from pipeline.evaluation.metrics.real import RealImages
from pipeline.evaluation.scoring import rms_estimate
from pipeline.evaluation.verdicts.checks import (
    EFFECTIVE_W,
    Check,
    effective_w_bounds,
    estimated_check,
)
from pipeline.evaluation.verdicts.gate_documents import (
    DISTANCE,
    RECALL,
    RMS,
    RoundVerdict,
    WeightChecks,
)
from pipeline.sampling.sampler import Images, LabelArray

FEWEST_REACHED = 13
"""Held-out images that the teacher's samples must cover for recalls to be compared.

The ratio of two counts of about c has a standard error of sqrt(2 / c). At fewer than 2 / .4^2 it
exceeds .4, and a student as good as its teacher fails the default bound of .6 by chance.
"""


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
        labels: classes of the samples; all 0 for data without classes.
        heldout: held-out real images in these features; None without real images.
    """

    extractor: str
    read: Mapping[float, GateFeatures]
    labels: LabelArray
    heldout: RealImages | None


def compute_checks(
    drawn: Mapping[float, GateSamples],
    rules: GateRules,
    instrument: GateExtractor | None,
    seed: int,
) -> tuple[WeightChecks, ...]:
    """Compute all checks at every guidance weight; disabled ones are reported without a bound.

    Without features there are only RMS and effective w, both by paired noise, and the latter only
    where samples are paired.

    Args:
        drawn: finite samples, by guidance weight.
        rules: bounds of the checks.
        instrument: features of the samples.
        seed: seed of the half-samples.
    """
    count = len(next(iter(drawn.values())).student)
    labels = np.zeros(count, np.int64) if instrument is None else instrument.labels
    others = {w: each.other for w, each in instrument.read.items()} if instrument else {}
    taught = {w: functools.partial(_teacher_of, sets) for w, sets in drawn.items()}
    case = _Case(rules, instrument, HalfSamples(labels, seed), TeacherSweep(taught, others))
    with threadpool_limits(1, user_api="blas"):
        return tuple(WeightChecks(w=w, checks=tuple(case.at(w, drawn[w]))) for w in drawn)


def with_bounds(verdict: RoundVerdict, rules: GateRules) -> RoundVerdict:
    """Return a verdict with the bounds of other rules on the same measured values."""
    is_paired = not any(reason.startswith(RMS) for reason in verdict.unmeasured)

    def bounded(check: Check, w: float) -> Check:
        if check.name not in (DISTANCE, RMS, RECALL, EFFECTIVE_W):
            return check
        least, most = _bounds(check.name, w, rules, is_paired=is_paired)
        return check.model_copy(update={"least": least, "most": most})

    found = tuple(
        WeightChecks(w=at.w, checks=tuple(bounded(check, at.w) for check in at.checks))
        for at in verdict.found
    )
    return verdict.model_copy(update={"found": found})


@dataclass(frozen=True)
class _Case:
    rules: GateRules
    instrument: GateExtractor | None
    halves: HalfSamples
    sweep: TeacherSweep

    def at(self, w: float, sets: GateSamples) -> Iterator[Check]:
        """Yield the checks at one guidance weight."""
        read = self.instrument.read[w] if self.instrument else None
        heldout = self.instrument.heldout if self.instrument else None
        against_real = {}
        if read is not None and heldout is not None:
            student, teacher = (
                heldout.by_halves(each, self.halves) for each in (read.student, read.teacher)
            )
            distances = student["distance_to_real"], teacher["distance_to_real"]
            against_real = {DISTANCE: distances[0].relative_distance(distances[1])}
            if teacher["recall"].value * heldout.count >= FEWEST_REACHED:
                against_real[RECALL] = student["recall"].ratio(teacher["recall"])
        bootstrap = Bootstrap(self.halves.labels, RESAMPLES, self.halves.seed)
        found = {**against_real, RMS: rms_estimate(sets.student, sets.teacher, bootstrap)}
        for name in (DISTANCE, RMS, RECALL):
            if name in found:
                yield self._check(name, w, found[name], sets)
        effective = None
        if sets.is_paired:
            effective = self.sweep.of_images(sets.student, self.halves)
        elif read is not None:
            effective = self.sweep.of_features(read.student, self.halves)
        if effective is not None:
            yield self._check(EFFECTIVE_W, w, effective.estimate(), sets)

    def _check(self, name: str, w: float, found: Estimate, sets: GateSamples) -> Check:
        bounds = _bounds(name, w, self.rules, is_paired=sets.is_paired)
        return estimated_check(name, found, *bounds)


def _teacher_of(sets: GateSamples) -> Images:
    return sets.teacher


def _bounds(
    name: str, w: float, rules: GateRules, *, is_paired: bool
) -> tuple[float | None, float | None]:
    """Return the smallest and the largest value that passes a check."""
    if name == DISTANCE:
        most = _bound(rules.relative_distance)
        if most is None or w == 0 or not 1 <= most < 2:
            return None, most
        return round(2 - most, 6), most
    if name == RECALL:
        return _bound(rules.recall), None
    if name == RMS:
        return None, _bound(is_paired and rules.rms)
    margin = _bound(rules.effective_w)
    return (None, None) if margin is None else effective_w_bounds(w, margin)


def _bound(value: Bound) -> float | None:
    """Return a bound; None if it is off."""
    return float(value) if value else None
