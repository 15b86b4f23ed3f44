"""Measure sets of samples against the real images and the teacher, all with the same instrument."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped] # it has no stubs

from pipeline.evaluation.documents import RESAMPLES
from pipeline.evaluation.features.caption_parts import look_for
from pipeline.evaluation.features.classifier import Reading
from pipeline.evaluation.metrics.bootstrap import Bootstrap, Found, Interval
from pipeline.evaluation.metrics.frechet import (
    Features,
    Moments,
    class_accuracies,
    class_accuracy,
    frechet_distance,
    frechet_found,
    inception_type_score,
    neighbour_distance,
)
from pipeline.evaluation.metrics.pairwise import psnr, squared_errors, ssim
from pipeline.evaluation.metrics.real import RealImages
from pipeline.evaluation.scores import Scores
from pipeline.sampling.conditions import Asked
from pipeline.sampling.sampler import Images, LabelArray

_DIGITS = 6  # significant digits that are kept; the rest is rounding
_MOST_NEIGHBOURS_LOOKED_UP = 500


@dataclass(frozen=True)
class ReadImages:
    """Images, and what the classifier sees in them, row by row."""

    images: Images
    reading: Reading


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

    def nearest_w(self, moments: Moments) -> float | None:
        """The guidance weight whose teacher is nearest to these moments; None if there is one."""
        if len(self.yardsticks) == 1:  # samples could be taken for no other
            return None
        return min(self.yardsticks, key=lambda w: frechet_distance(self.yardsticks[w], moments))


class Judge:
    """Holds the real images; scores any set of samples that was read against them."""

    def __init__(
        self,
        heldout: Features,
        training: Images,
        *,
        class_names: Sequence[str] = (),
        reads_prompts: bool = False,
    ) -> None:
        """Prepare the comparison.

        Args:
            heldout: features of real images that neither the networks nor the classifier were
                trained on.
            training: real images that they were trained on.
            class_names: in order of label; without them nothing is told class by class.
            reads_prompts: whether captions are those of captioned digits, whose parts can be told.
        """
        self._class_names = class_names
        self._reads_prompts = reads_prompts
        self._training = training
        with threadpool_limits(1, user_api="blas"):
            self._heldout = RealImages(heldout)

    def score_training(self, rows: np.ndarray, reading: Reading, labels: LabelArray) -> Scores:
        """Scores of training images `rows` as if they were samples: a perfect sampler's.

        Their nearest training image is the nearest *other* one.
        """
        read = ReadImages(self._training[rows], reading)
        return self._scores(read, labels, teacher=None, neighbour=2, seed=0)

    def score(self, read: ReadImages, asked: Asked, teacher: Teacher, seed: int) -> Scores:
        """Scores of samples; `seed` is that of the bootstrap."""
        scores = self._scores(read, asked.labels, teacher=teacher, neighbour=1, seed=seed)
        return scores.model_copy(update=self._prompt_accuracy(read, asked, seed))

    def _scores(
        self,
        read: ReadImages,
        labels: LabelArray,
        *,
        teacher: Teacher | None,
        neighbour: int,
        seed: int,
    ) -> Scores:
        images, reading = read.images, read.reading
        bootstrap = Bootstrap(labels, RESAMPLES, seed)
        # matrices are small: threads would only fight each other, and change the last digits
        with threadpool_limits(1, user_api="blas"):
            found = self._heldout.compare(reading.features, bootstrap)
            found |= _of_classes(reading, labels, bootstrap)
            found["nearest_training"] = self._nearest_training(images, labels, neighbour, seed)
            moments = Moments.of(reading.features)
            if teacher:
                found["distance_to_teacher"] = frechet_found(
                    teacher.yardstick, reading.features, bootstrap
                )
        if teacher:
            found |= agreement_with(images, teacher.samples, bootstrap)
        follows = teacher.nearest_w(moments) if teacher else None
        told = named(found) | {"nearest_teacher_w": follows}
        if self._class_names:
            each = _of_each_class(reading, labels, bootstrap)
            by_name = {self._class_names[label]: share for label, share in each.items()}
            told |= _in_parts("accuracy_by_class", by_name)
        return Scores.model_validate(told)

    def _prompt_accuracy(self, read: ReadImages, asked: Asked, seed: int) -> dict[str, Any]:
        if asked.prompts is None or not self._reads_prompts:
            return {}
        digits = read.reading.probabilities.argmax(axis=1)
        seen = look_for(read.images, digits, asked.prompts)
        bootstrap = Bootstrap(asked.labels, RESAMPLES, seed)
        found = {
            part: bootstrap.mean(right.astype(np.float64), most=1.0) for part, right in seen.items()
        }
        return _in_parts("prompt_accuracy", found)

    def _nearest_training(
        self, images: Images, labels: LabelArray, neighbour: int, seed: int
    ) -> Found:
        flat = images.reshape(len(images), -1)
        few = np.linspace(0, len(flat) - 1, min(len(flat), _MOST_NEIGHBOURS_LOOKED_UP)).astype(int)
        training = self._training.reshape(len(self._training), -1)
        distance = neighbour_distance(flat[few], training, neighbour)
        return Bootstrap(labels[few], RESAMPLES, seed).mean(distance / np.sqrt(flat.shape[1]))


def moments_of(features: Features) -> Moments:
    """Moments of features, with the last digits that every other number here has."""
    with threadpool_limits(1, user_api="blas"):
        return Moments.of(features)


def named(found: Mapping[str, Found]) -> dict[str, Any]:
    """Each number under its name, and its interval under the same with `_interval`."""
    numbers = {name: kept(value) for name, (value, _) in found.items()}
    return numbers | {f"{name}_interval": _ends(interval) for name, (_, interval) in found.items()}


def _in_parts(name: str, found: Mapping[str, Found]) -> dict[str, Any]:
    """A number that has parts under its name, and their intervals, each by part."""
    return {
        name: {part: kept(value) for part, (value, _) in found.items()},
        f"{name}_interval": {part: _ends(interval) for part, (_, interval) in found.items()},
    }


def kept(value: float) -> float:
    """The digits of a number that are no rounding."""
    return float(f"{value:.{_DIGITS}g}")


def _ends(interval: Interval) -> tuple[float, float]:
    return kept(interval.low), kept(interval.high)


def _of_classes(reading: Reading, labels: LabelArray, bootstrap: Bootstrap) -> dict[str, Found]:
    p = reading.probabilities
    return {
        "inception_score": bootstrap.of(lambda rows: inception_type_score(p[rows])),
        "class_accuracy": bootstrap.of(
            lambda rows: class_accuracy(p[rows], labels[rows]), most=1.0
        ),
    }


def _of_each_class(reading: Reading, labels: LabelArray, bootstrap: Bootstrap) -> dict[int, Found]:
    """Accuracy of each class by label, in the resamples of all the other numbers."""
    p = reading.probabilities
    drawn = [class_accuracies(p[rows], labels[rows]) for rows in bootstrap.rows]
    return {
        label: (share, bootstrap.around(share, np.array([each[label] for each in drawn]), most=1.0))
        for label, share in class_accuracies(p, labels).items()
    }


def rms_found(images: Images, others: Images, bootstrap: Bootstrap) -> Found:
    """Root mean square difference of images in pairs."""
    squares = squared_errors(images, others)
    return bootstrap.of(lambda rows: float(np.sqrt(squares[rows].mean())))


def agreement_with(images: Images, others: Images, bootstrap: Bootstrap) -> dict[str, Found]:
    """How far images are from others of the same noise, pair by pair."""
    similar = ssim(images, others)
    found = {
        "rms_to_teacher": rms_found(images, others, bootstrap),
        "psnr_to_teacher": bootstrap.mean(psnr(images, others), least=None),
    }
    if similar is not None:
        found["ssim_to_teacher"] = bootstrap.mean(similar, least=None)
    return found
