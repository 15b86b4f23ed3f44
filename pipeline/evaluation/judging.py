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
from pipeline.evaluation.bootstrap import Bootstrap
from pipeline.evaluation.classifier import Classifier
from pipeline.evaluation.fidelity import Check
from pipeline.evaluation.metrics import Features, Moments, frechet_distance, paired_rms
from pipeline.evaluation.neighbourhood import RealManifold, neighbourhood
from pipeline.evaluation.round_verdict import DISTANCE, FOLLOWS, RECALL, RMS, AtWeight
from pipeline.evaluation.sampling import Images
from pipeline.evaluation.scoring import kept

_DIVISIONS = 32  # the floor's own error is then a sixth of one division's
_MOST = 1e6  # a ratio to a floor of nothing


@dataclass(frozen=True)
class Drawn:
    """The samples at one guidance weight, rows of the same classes.

    Attributes:
        student: what is judged.
        teacher: from the noise the student started from.
        other: the teacher's from other noise.
    """

    student: Images
    teacher: Images
    other: Images

    @property
    def are_finite(self) -> bool:
        """Whether the student's samples are numbers."""
        return bool(np.isfinite(self.student).all())


@dataclass(frozen=True)
class Instrument:
    """Data with classes have it: a classifier, and held-out real images as it sees them."""

    classifier: Classifier
    heldout: RealManifold

    def read(self, images: Images) -> Features:
        """Features of images."""
        found: Features = self.classifier.read(images).features
        return found

    def recall(self, samples: Features) -> float:
        """Share of the held-out images that lie among samples; how sure that is, nobody asks."""
        once = Bootstrap(labels=np.zeros(len(samples), np.int64), resamples=1, seed=0)
        return neighbourhood(self.heldout, samples, once).recall[0]


def measure(
    drawn: Mapping[float, Drawn], rules: GateRules, instrument: Instrument | None, seed: int
) -> tuple[AtWeight, ...]:
    """Ask everything at every guidance weight; what is off is stated without a bound.

    Without an instrument there are RMS and control of w alone, both by the same noise.

    Args:
        drawn: finite samples, by guidance weight.
        rules: the bounds.
        instrument: reads features.
        seed: of the divisions behind the floor.
    """
    if instrument is None:
        return tuple(_by_noise(w, drawn, rules) for w in drawn)
    with threadpool_limits(1, user_api="blas"):
        others = {w: instrument.read(sets.other) for w, sets in drawn.items()}
        return tuple(_by_features(w, drawn, others, rules, (instrument, seed)) for w in drawn)


def _by_noise(w: float, drawn: Mapping[float, Drawn], rules: GateRules) -> AtWeight:
    student = drawn[w].student
    nearest = min(drawn, key=lambda other: paired_rms(student, drawn[other].teacher))
    checks = [_rms(drawn[w], rules), *_follows(w, nearest, len(drawn), rules)]
    return AtWeight(w=w, checks=tuple(checks))


def _by_features(
    w: float,
    drawn: Mapping[float, Drawn],
    others: Mapping[float, Features],
    rules: GateRules,
    means: tuple[Instrument, int],
) -> AtWeight:
    instrument, seed = means
    student, teacher = instrument.read(drawn[w].student), instrument.read(drawn[w].teacher)
    moments = Moments.of(student)
    distances = {at: frechet_distance(Moments.of(found), moments) for at, found in others.items()}
    factor = min(distances[w] / max(floor(teacher, others[w], seed), 1 / _MOST), _MOST)
    recalls = instrument.recall(student), instrument.recall(teacher)
    checks = [
        Check(name=DISTANCE, value=_kept(factor), most=_bound(rules.distance)),
        _rms(drawn[w], rules),
        Check(name=RECALL, value=_ratio(*recalls), least=_bound(rules.recall)),
        *_follows(w, min(distances, key=distances.__getitem__), len(drawn), rules),
    ]
    return AtWeight(w=w, checks=tuple(checks))


def floor(first: Features, second: Features, seed: int) -> float:
    """Frechet distance of two sets of one sampler, in the mean over ways to divide them anew.

    Row i of both is of one class, so that rows that change places keep the classes balanced.
    """
    random = np.random.default_rng(seed)
    found = []
    for _ in range(_DIVISIONS):
        swapped = random.random(len(first)) < 0.5
        one = np.where(swapped[:, None], second, first)
        two = np.where(swapped[:, None], first, second)
        found.append(frechet_distance(Moments.of(one), Moments.of(two)))
    return float(np.mean(found))


def _rms(sets: Drawn, rules: GateRules) -> Check:
    value = _kept(paired_rms(sets.student, sets.teacher))
    return Check(name=RMS, value=value, most=_bound(rules.rms))


def _follows(w: float, nearest: float, count: int, rules: GateRules) -> list[Check]:
    if count == 1:  # there is nothing it could be taken for
        return []
    bound = w if rules.follows_w else None
    return [Check(name=FOLLOWS, value=nearest, least=bound, most=bound)]


def _bound(value: float | bool) -> float | None:  # noqa: FBT001 (off is a value of it)
    return None if value is False else float(value)


def _ratio(value: float, of: float) -> float:
    """A teacher that reaches nothing asks nothing of its student."""
    return 1.0 if of == 0 else _kept(value / of)


def _kept(value: float) -> float:
    return kept(min(value, _MOST))
