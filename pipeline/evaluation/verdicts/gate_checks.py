"""Measure a round's student against the round's own teacher, on few samples.

The floor is what chance alone makes of so few samples: the distance of two sets of the teacher's,
from different noise, in the mean over ways to divide both sets anew. One division alone would be
far from its mean where features have few dimensions.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped] # it has no stubs

from pipeline.config import GateRules
from pipeline.evaluation.metrics.bootstrap import Bootstrap
from pipeline.evaluation.metrics.frechet import (
    Features,
    Moments,
    frechet_distance,
    in_their_span,
    paired_rms,
)
from pipeline.evaluation.metrics.manifold import RealManifold, neighbourhood
from pipeline.evaluation.scoring import kept
from pipeline.evaluation.verdicts.checks import Check
from pipeline.evaluation.verdicts.gate_documents import DISTANCE, FOLLOWS, RECALL, RMS, AtWeight
from pipeline.sampling.sampler import Images

_DIVISIONS = 32  # the floor's own error is then a sixth of one division's
_MOST = 1e6  # a ratio to a floor of nothing


@dataclass(frozen=True)
class Drawn:
    """The samples at one guidance weight, rows of the same classes.

    Attributes:
        student: what is judged.
        teacher: from the noise the student started from.
        other: the teacher's from other noise.
        is_paired: whether that noise is all there is in student and teacher. Where one of them is
            noised on the way, no sample of the one belongs to a sample of the other.
    """

    student: Images
    teacher: Images
    other: Images
    is_paired: bool = True

    @property
    def are_finite(self) -> bool:
        """Whether the student's samples are numbers."""
        return bool(np.isfinite(self.student).all())


@dataclass(frozen=True)
class ReadDrawn:
    """What a network sees in the samples at one guidance weight, features `[n, d]` each."""

    student: Features
    teacher: Features
    other: Features


@dataclass(frozen=True)
class Instrument:
    """What one network sees in all that is judged.

    Attributes:
        extractor: its name; "" for the data set's own classifier.
        read: features of the samples, by guidance weight.
        heldout: held-out real images in these features; None where there are no real images.
    """

    extractor: str
    read: Mapping[float, ReadDrawn]
    heldout: RealManifold | None


def measure(
    drawn: Mapping[float, Drawn], rules: GateRules, instrument: Instrument | None, seed: int
) -> tuple[AtWeight, ...]:
    """Ask everything at every guidance weight; what is off is stated without a bound.

    Without an instrument there are RMS and control of w alone, both by the same noise: of samples
    that are no pairs nothing is asked then.

    Args:
        drawn: finite samples, by guidance weight.
        rules: the bounds.
        instrument: their features.
        seed: of the divisions behind the floor.
    """
    if instrument is None:
        return tuple(_by_noise(w, drawn, rules) for w in drawn)
    with threadpool_limits(1, user_api="blas"):
        return tuple(_by_features(w, drawn, rules, instrument, seed) for w in drawn)


def _by_noise(w: float, drawn: Mapping[float, Drawn], rules: GateRules) -> AtWeight:
    student = drawn[w].student
    nearest = min(drawn, key=lambda other: paired_rms(student, drawn[other].teacher))
    is_asked = rules.w_consistency and drawn[w].is_paired
    checks = [_rms(drawn[w], rules), *_follows(w, nearest, len(drawn), is_asked=is_asked)]
    return AtWeight(w=w, checks=tuple(checks))


def _by_features(
    w: float,
    drawn: Mapping[float, Drawn],
    rules: GateRules,
    instrument: Instrument,
    seed: int,
) -> AtWeight:
    read = instrument.read[w]
    distances = {at: _distance(each.other, read.student) for at, each in instrument.read.items()}
    factor = min(distances[w] / max(floor(read.teacher, read.other, seed), 1 / _MOST), _MOST)
    nearest = min(distances, key=distances.__getitem__)
    checks = [
        Check(name=DISTANCE, value=_kept(factor), most=_bound(rules.distance)),
        _rms(drawn[w], rules),
        *_recall(read, rules, instrument.heldout),
        *_follows(w, nearest, len(drawn), is_asked=rules.w_consistency),
    ]
    return AtWeight(w=w, checks=tuple(checks))


def _distance(first: Features, second: Features) -> float:
    one, two = in_their_span(first, second)
    return frechet_distance(Moments.of(one), Moments.of(two))


def floor(first: Features, second: Features, seed: int) -> float:
    """Frechet distance of two sets of one sampler, in the mean over ways to divide them anew.

    Row i of both is of one class, so that rows that change places keep the classes balanced.
    """
    random = np.random.default_rng(seed)
    first, second = in_their_span(first, second)
    found = []
    for _ in range(_DIVISIONS):
        swapped = random.random(len(first)) < 0.5
        one = np.where(swapped[:, None], second, first)
        two = np.where(swapped[:, None], first, second)
        found.append(frechet_distance(Moments.of(one), Moments.of(two)))
    return float(np.mean(found))


def _recall(read: ReadDrawn, rules: GateRules, heldout: RealManifold | None) -> list[Check]:
    if heldout is None:
        return []
    # how sure it is, nobody asks
    once = Bootstrap(labels=np.zeros(len(read.student), np.int64), resamples=1, seed=0)
    student, teacher = (
        neighbourhood(heldout, features, once).recall[0]
        for features in (read.student, read.teacher)
    )
    return [Check(name=RECALL, value=_ratio(student, teacher), least=_bound(rules.recall))]


def _rms(sets: Drawn, rules: GateRules) -> Check:
    value = _kept(paired_rms(sets.student, sets.teacher))
    return Check(name=RMS, value=value, most=_bound(rules.rms) if sets.is_paired else None)


def _follows(w: float, nearest: float, count: int, *, is_asked: bool) -> list[Check]:
    if count == 1:  # there is nothing it could be taken for
        return []
    bound = w if is_asked else None
    return [Check(name=FOLLOWS, value=nearest, least=bound, most=bound)]


def _bound(value: float | bool) -> float | None:  # noqa: FBT001 (off is a value of it)
    return None if value is False else float(value)


def _ratio(value: float, of: float) -> float:
    """A teacher that reaches nothing asks nothing of its student."""
    return 1.0 if of == 0 else _kept(value / of)


def _kept(value: float) -> float:
    return kept(min(value, _MOST))
