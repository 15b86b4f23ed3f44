"""Scores of sample sets against real images and the teacher, by the data set's classifier."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped] # it has no stubs

from pipeline.evaluation.documents import RESAMPLES
from pipeline.evaluation.features.caption_parts import match_caption_parts
from pipeline.evaluation.features.classifier import ClassifierOutputs
from pipeline.evaluation.metrics.bootstrap import Bootstrap, Estimate, Interval
from pipeline.evaluation.metrics.frechet import (
    Features,
    Moments,
    frechet_distance,
    frechet_replicates,
    inception_type_score,
    is_correct,
    neighbour_distance,
)
from pipeline.evaluation.metrics.halves import HalfSamples
from pipeline.evaluation.metrics.pairwise import psnr, squared_errors, ssim
from pipeline.evaluation.metrics.real import RealImages
from pipeline.evaluation.scores import Scores
from pipeline.sampling.conditions import Conditions
from pipeline.sampling.sampler import Images, LabelArray

_DIGITS = 6  # significant digits of reported numbers
_MOST_NEIGHBOURS_LOOKED_UP = 500


@dataclass(frozen=True)
class ClassifiedImages:
    """Images and the classifier's outputs on them, row by row."""

    images: Images
    reading: ClassifierOutputs


@dataclass(frozen=True)
class TeacherReference:
    """Teacher samples as the reference at one guidance weight.

    Attributes:
        w: guidance weight.
        samples: samples of the reference sampler, from the students' starting noise.
        noise_floors: moments of the noise-floor samples (other seed), in classifier features, for
            every guidance weight of the comparison.
    """

    w: float
    samples: Images
    noise_floors: Mapping[float, Moments]

    @property
    def noise_floor(self) -> Moments:
        """Moments of the noise-floor samples at this guidance weight."""
        return self.noise_floors[self.w]

    def nearest_w(self, moments: Moments) -> float | None:
        """Return the w whose teacher samples are nearest to `moments`; None with a single w."""
        if len(self.noise_floors) == 1:
            return None
        return min(self.noise_floors, key=lambda w: frechet_distance(self.noise_floors[w], moments))


class Scorer:
    """Scores sample sets against the real images and a teacher."""

    def __init__(
        self,
        heldout: Features,
        heldout_labels: LabelArray,
        training: Images,
        *,
        class_names: Sequence[str] = (),
        reads_prompts: bool = False,
    ) -> None:
        """Prepare the references.

        Args:
            heldout: features of real images that were not used to train networks or classifier.
            heldout_labels: their classes.
            training: real images of the training split.
            class_names: class names in order of label; without them there are no scores per class.
            reads_prompts: whether prompts describe captioned digits, so that accuracy can be
                computed for each part of the prompt.
        """
        self._class_names = class_names
        self._reads_prompts = reads_prompts
        self._training = training
        with threadpool_limits(1, user_api="blas"):
            self._heldout = RealImages(heldout, heldout_labels)

    def score_training(
        self, rows: np.ndarray, reading: ClassifierOutputs, labels: LabelArray
    ) -> Scores:
        """Score training images `rows` like samples, as an ideal sampler would score.

        The nearest training image of each is the nearest *other* one.
        """
        read = ClassifiedImages(self._training[rows], reading)
        return self._scores(read, labels, teacher=None, neighbour=2, seed=0)

    def score(
        self, read: ClassifiedImages, conditions: Conditions, teacher: TeacherReference, seed: int
    ) -> Scores:
        """Score samples against the teacher; `seed` is the seed of the bootstrap."""
        scores = self._scores(read, conditions.labels, teacher=teacher, neighbour=1, seed=seed)
        return scores.model_copy(update=self._prompt_accuracy(read, conditions, seed))

    def _scores(
        self,
        read: ClassifiedImages,
        labels: LabelArray,
        *,
        teacher: TeacherReference | None,
        neighbour: int,
        seed: int,
    ) -> Scores:
        images, reading = read.images, read.reading
        bootstrap, halves = Bootstrap(labels, RESAMPLES, seed), HalfSamples(labels, seed)
        # one thread: matrices are small, and the last digits depend on the number of threads
        with threadpool_limits(1, user_api="blas"):
            found, _ = self._heldout.compare(reading.features, bootstrap, halves)
            found |= _classification(reading, labels, bootstrap, halves)
            found["nearest_training"] = self._nearest_training(images, labels, neighbour, seed)
            moments = Moments.of(reading.features)
            if teacher:
                found["distance_to_teacher"] = frechet_replicates(
                    teacher.noise_floor, reading.features, halves
                ).estimate()
        if teacher:
            found |= agreement_with(images, teacher.samples, bootstrap)
        nearest_w = teacher.nearest_w(moments) if teacher else None
        numbers = flatten_estimates(found) | {"nearest_teacher_w": nearest_w}
        if self._class_names:
            by_label = _accuracy_by_label(reading, labels)
            by_name = {self._class_names[label]: share for label, share in by_label.items()}
            numbers |= _in_parts("accuracy_by_class", by_name)
        return Scores.model_validate(numbers)

    def _prompt_accuracy(
        self, read: ClassifiedImages, conditions: Conditions, seed: int
    ) -> dict[str, Any]:
        if conditions.prompts is None or not self._reads_prompts:
            return {}
        digits = read.reading.probabilities.argmax(axis=1)
        matches = match_caption_parts(read.images, digits, conditions.prompts)
        bootstrap = Bootstrap(conditions.labels, RESAMPLES, seed)
        found = {part: bootstrap.share(is_match) for part, is_match in matches.items()}
        return _in_parts("prompt_accuracy", found)

    def _nearest_training(
        self, images: Images, labels: LabelArray, neighbour: int, seed: int
    ) -> Estimate:
        flat = images.reshape(len(images), -1)
        count = min(len(flat), _MOST_NEIGHBOURS_LOOKED_UP)
        chosen = np.linspace(0, len(flat) - 1, count).astype(int)
        training = self._training.reshape(len(self._training), -1)
        distance = neighbour_distance(flat[chosen], training, neighbour)
        return Bootstrap(labels[chosen], RESAMPLES, seed).mean(distance / np.sqrt(flat.shape[1]))


def moments_of(features: Features) -> Moments:
    """Compute moments of features on one thread, so that their last digits are reproducible."""
    with threadpool_limits(1, user_api="blas"):
        return Moments.of(features)


def flatten_estimates(found: Mapping[str, Estimate]) -> dict[str, Any]:
    """Flatten to `{name: value, name_interval: (low, high)}`."""
    numbers = {name: round_significant(value) for name, (value, _) in found.items()}
    return numbers | {f"{name}_interval": _ends(interval) for name, (_, interval) in found.items()}


def _in_parts(name: str, found: Mapping[str, Estimate]) -> dict[str, Any]:
    """Flatten a number with parts to the same two keys, each holding a mapping by part."""
    return {
        name: {part: round_significant(value) for part, (value, _) in found.items()},
        f"{name}_interval": {part: _ends(interval) for part, (_, interval) in found.items()},
    }


def round_significant(value: float) -> float:
    """Round to six significant digits."""
    return float(f"{value:.{_DIGITS}g}")


def _ends(interval: Interval) -> tuple[float, float]:
    return round_significant(interval.low), round_significant(interval.high)


def _classification(
    reading: ClassifierOutputs, labels: LabelArray, bootstrap: Bootstrap, halves: HalfSamples
) -> dict[str, Estimate]:
    p = reading.probabilities
    return {
        "inception_score": halves.of(lambda rows: inception_type_score(p[rows])).estimate(
            least=1.0
        ),
        "class_accuracy": bootstrap.share(is_correct(p, labels)),
    }


def _accuracy_by_label(reading: ClassifierOutputs, labels: LabelArray) -> dict[int, Estimate]:
    """Compute the accuracy of each class, by label."""
    correct = is_correct(reading.probabilities, labels)
    found = {}
    for label in np.unique(labels).tolist():
        own = correct[labels == label]
        found[label] = Bootstrap(np.zeros(len(own), np.int64), RESAMPLES, seed=0).share(own)
    return found


def rms_estimate(images: Images, others: Images, bootstrap: Bootstrap) -> Estimate:
    """Compute the root mean square difference of paired images, and its interval."""
    square, interval = bootstrap.mean(squared_errors(images, others))
    return math.sqrt(square), Interval(math.sqrt(interval.low), math.sqrt(interval.high))


def agreement_with(images: Images, others: Images, bootstrap: Bootstrap) -> dict[str, Estimate]:
    """Compute RMS, PSNR and SSIM of images against others from the same noise."""
    similar = ssim(images, others)
    found = {
        "rms_to_teacher": rms_estimate(images, others, bootstrap),
        "psnr_to_teacher": bootstrap.mean(psnr(images, others), least=None),
    }
    if similar is not None:
        found["ssim_to_teacher"] = bootstrap.mean(similar, least=None)
    return found
