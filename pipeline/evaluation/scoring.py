"""Measure sets of samples against the real images and the teacher, all with the same instrument."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped] # it has no stubs

from pipeline.evaluation.asking import Asked
from pipeline.evaluation.classifier import Classifier, Reading
from pipeline.evaluation.metrics import (
    Interval,
    Moments,
    bootstrap_interval,
    class_accuracy,
    frechet_distance,
    frechet_interval,
    inception_type_score,
    neighbour_distance,
    paired_rms,
    precision_recall,
)
from pipeline.evaluation.prompts import look_for
from pipeline.evaluation.protocol import NEIGHBOURS, RESAMPLES
from pipeline.evaluation.sampling import Images, LabelArray
from pipeline.evaluation.scores import Scores

_DIGITS = 6  # significant digits that are kept; the rest is rounding
_MOST_NEIGHBOURS_LOOKED_UP = 500


@dataclass(frozen=True)
class Teacher:
    """What students are compared with at one guidance weight.

    Attributes:
        w: the guidance weight.
        samples: of the reference sampler, from the noise that students start from too.
        yardsticks: moments of its samples from other noise, in classifier features, at every
            guidance weight that is compared.
    """

    w: float
    samples: Images
    yardsticks: Mapping[float, Moments]

    @property
    def yardstick(self) -> Moments:
        """The moments at its own guidance weight."""
        return self.yardsticks[self.w]

    def nearest_w(self, moments: Moments) -> float:
        """The guidance weight whose teacher is nearest to these moments."""
        return min(self.yardsticks, key=lambda w: frechet_distance(self.yardsticks[w], moments))


class Judge:
    """Holds the real images and the classifier; scores any set of samples against them."""

    def __init__(
        self,
        classifier: Classifier,
        heldout: Images,
        training: Images,
        *,
        reads_prompts: bool = False,
    ) -> None:
        """Prepare the comparison.

        Args:
            classifier: the instrument.
            heldout: real images that neither the networks nor the classifier were trained on.
            training: real images that they were trained on.
            reads_prompts: whether captions are those of captioned digits, whose parts can be told.
        """
        self._reads_prompts = reads_prompts
        self._classifier = classifier
        self._training = training.reshape(len(training), -1)
        self._heldout = classifier.read(heldout).features
        with threadpool_limits(1, user_api="blas"):
            self._heldout_moments = Moments.of(self._heldout)

    def moments(self, images: Images) -> Moments:
        """Moments of a set of images in classifier features."""
        with threadpool_limits(1, user_api="blas"):
            return Moments.of(self._classifier.read(images).features)

    def score_training(self, rows: np.ndarray, labels: LabelArray) -> Scores:
        """Scores of training images `rows` as if they were samples: a perfect sampler's.

        Their nearest training image is the nearest *other* one.
        """
        images = self._training[rows]
        shape = self._classifier.card.latent_shape
        return self._scores(
            images.reshape(-1, *shape[1:], shape[0]), labels, teacher=None, neighbour=2, seed=0
        )

    def score(self, images: Images, asked: Asked, teacher: Teacher, seed: int) -> Scores:
        """Scores of samples; `seed` is that of the bootstrap."""
        scores = self._scores(images, asked.labels, teacher=teacher, neighbour=1, seed=seed)
        return scores.model_copy(update={"prompt_accuracy": self._prompt_accuracy(images, asked)})

    def _prompt_accuracy(self, images: Images, asked: Asked) -> dict[str, float] | None:
        if asked.prompts is None or not self._reads_prompts:
            return None
        digits = self._classifier.read(images).probabilities.argmax(axis=1)
        seen = look_for(images, digits, asked.prompts)
        return {part: _kept(float(right.mean())) for part, right in seen.items()}

    def _scores(
        self,
        images: Images,
        labels: LabelArray,
        *,
        teacher: Teacher | None,
        neighbour: int,
        seed: int,
    ) -> Scores:
        reading = self._classifier.read(images)
        # matrices are small: threads would only fight each other, and change the last digits
        with threadpool_limits(1, user_api="blas"):
            to_real = _distance(self._heldout_moments, reading, labels, seed)
            to_teacher = _distance(teacher.yardstick, reading, labels, seed) if teacher else None
            reach = min(NEIGHBOURS, len(images) - 1, len(self._heldout) - 1)
            precision, recall = precision_recall(self._heldout, reading.features, reach)
            nearest = self._nearest_training(images, neighbour)
            follows = teacher.nearest_w(Moments.of(reading.features)) if teacher else None
            score = _score(reading, labels, seed)
        rms = _rms(images, teacher.samples, labels, seed) if teacher else None
        return Scores(
            distance_to_real=to_real[0],
            distance_to_real_interval=to_real[1],
            distance_to_teacher=to_teacher[0] if to_teacher else None,
            distance_to_teacher_interval=to_teacher[1] if to_teacher else None,
            nearest_teacher_w=follows,
            class_accuracy=_kept(class_accuracy(reading.probabilities, labels)),
            inception_score=score[0],
            inception_score_interval=score[1],
            precision=_kept(precision),
            recall=_kept(recall),
            rms_to_teacher=rms[0] if rms else None,
            rms_to_teacher_interval=rms[1] if rms else None,
            nearest_training=nearest,
        )

    def _nearest_training(self, images: Images, neighbour: int) -> float:
        flat = images.reshape(len(images), -1)
        few = np.linspace(0, len(flat) - 1, min(len(flat), _MOST_NEIGHBOURS_LOOKED_UP)).astype(int)
        distance = neighbour_distance(flat[few], self._training, neighbour)
        return _kept(float(distance.mean()) / np.sqrt(flat.shape[1]))


_Measured = tuple[float, tuple[float, float]]


def _distance(reference: Moments, reading: Reading, labels: LabelArray, seed: int) -> _Measured:
    interval = frechet_interval(reference, reading.features, labels, resamples=RESAMPLES, seed=seed)
    return _with_interval(frechet_distance(reference, Moments.of(reading.features)), interval)


def _score(reading: Reading, labels: LabelArray, seed: int) -> _Measured:
    p = reading.probabilities
    interval = bootstrap_interval(
        lambda rows: inception_type_score(p[rows]), labels, resamples=RESAMPLES, seed=seed
    )
    return _with_interval(inception_type_score(p), interval)


def _rms(images: Images, others: Images, labels: LabelArray, seed: int) -> _Measured:
    difference = (images.astype(np.float64) - others).reshape(len(images), -1)
    squares = np.mean(difference**2, axis=1)
    interval = bootstrap_interval(
        lambda rows: float(np.sqrt(squares[rows].mean())), labels, resamples=RESAMPLES, seed=seed
    )
    return _with_interval(paired_rms(images, others), interval)


def _with_interval(value: float, interval: Interval) -> _Measured:
    return _kept(value), (_kept(interval.low), _kept(interval.high))


def _kept(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
