"""Scores of sample sets against real images and the teacher, by the data set's classifier."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped] # it has no stubs

from pipeline.evaluation.documents import RESAMPLES
from pipeline.evaluation.features.caption_parts import match_caption_parts
from pipeline.evaluation.features.classifier import ClassifierOutputs
from pipeline.evaluation.metrics.bootstrap import Bootstrap, Estimate, Interval
from pipeline.evaluation.metrics.effective_w import TeacherSweep
from pipeline.evaluation.metrics.frechet import (
    Features,
    Moments,
    frechet_replicates,
    inception_type_score,
    is_correct,
    neighbour_distance,
)
from pipeline.evaluation.metrics.halves import HalfSamples, Replicates
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
        noise_floor: moments of the noise-floor samples (other seed), in classifier features.
        sweep: the teacher's samples at every guidance weight of the comparison.
    """

    w: float
    samples: Images
    noise_floor: Moments
    sweep: TeacherSweep


@dataclass(frozen=True)
class Measured:
    """Scores of a sample set, and what its comparison with paired samples needs.

    Attributes:
        scores: the scores.
        replicates: statistics by half-samples: distance_to_real, recall and inception_score.
        values: values of every sample: accuracy, nearest (of some samples) and prompt.
        nearest_labels: classes of the samples of `nearest`.
    """

    scores: Scores
    replicates: Mapping[str, Replicates]
    values: Mapping[str, Float[np.ndarray, "_"]]
    nearest_labels: LabelArray


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
        return self._measure(read, labels, teacher=None, neighbour=2, seed=0).scores

    def score(
        self,
        read: ClassifiedImages,
        conditions: Conditions,
        teacher: TeacherReference,
        seed: int,
        *,
        is_paired: bool = True,
    ) -> Measured:
        """Score samples against the teacher.

        Args:
            read: the samples.
            conditions: their conditions.
            teacher: the teacher's samples at the same w.
            seed: seed of half-samples and bootstrap.
            is_paired: whether the sampler adds no noise after the starting noise. Otherwise the
                effective w is that of features.
        """
        found = self._measure(
            read, conditions.labels, teacher=teacher, neighbour=1, seed=seed, is_paired=is_paired
        )
        prompts, matches = self._prompt_accuracy(read, conditions, seed)
        scores = found.scores.model_copy(update=prompts)
        return replace(found, scores=scores, values={**found.values, **matches})

    def _measure(
        self,
        read: ClassifiedImages,
        labels: LabelArray,
        *,
        teacher: TeacherReference | None,
        neighbour: int,
        seed: int,
        is_paired: bool = True,
    ) -> Measured:
        images, reading = read.images, read.reading
        bootstrap, halves = Bootstrap(labels, RESAMPLES, seed), HalfSamples(labels, seed)
        # one thread: matrices are small, and the last digits depend on the number of threads
        with threadpool_limits(1, user_api="blas"):
            found, replicates = self._heldout.compare(reading.features, bootstrap, halves)
            p = reading.probabilities
            score = halves.of(lambda rows: inception_type_score(p[rows]))
            nearest, chosen = self._nearest_training(images, neighbour)
            correct = is_correct(p, labels)
            found |= {
                "inception_score": score.estimate(least=1.0),
                "class_accuracy": bootstrap.share(correct),
                "nearest_training": Bootstrap(labels[chosen], RESAMPLES, seed).mean(nearest),
            }
            if teacher:
                found["distance_to_teacher"] = frechet_replicates(
                    teacher.noise_floor, reading.features, halves
                ).estimate()
                if is_paired:
                    effective = teacher.sweep.of_images(images, halves)
                else:
                    effective = teacher.sweep.of_features(reading.features, halves)
                if effective is not None:
                    found["effective_w"] = effective.estimate()
        if teacher:
            found |= agreement_with(images, teacher.samples, bootstrap)
        numbers = flatten_estimates(found)
        if self._class_names:
            by_label = _accuracy_by_label(reading, labels)
            by_name = {self._class_names[label]: share for label, share in by_label.items()}
            numbers |= _in_parts("accuracy_by_class", by_name)
        return Measured(
            Scores.model_validate(numbers),
            {**replicates, "inception_score": score},
            {"accuracy": correct.astype(np.float64), "nearest": nearest},
            labels[chosen],
        )

    def _prompt_accuracy(
        self, read: ClassifiedImages, conditions: Conditions, seed: int
    ) -> tuple[dict[str, Any], dict[str, Float[np.ndarray, "_"]]]:
        """Compute the accuracy of every part of the prompts, and whether all parts match."""
        if conditions.prompts is None or not self._reads_prompts:
            return {}, {}
        digits = read.reading.probabilities.argmax(axis=1)
        matches = match_caption_parts(read.images, digits, conditions.prompts)
        bootstrap = Bootstrap(conditions.labels, RESAMPLES, seed)
        found = {part: bootstrap.share(is_match) for part, is_match in matches.items()}
        all_match = matches["all"].astype(np.float64)
        return _in_parts("prompt_accuracy", found), {"prompt": all_match}

    def _nearest_training(
        self, images: Images, neighbour: int
    ) -> tuple[Float[np.ndarray, "_"], LabelArray]:
        """Compute the RMS distances to the nearest training image, and return the rows."""
        flat = images.reshape(len(images), -1)
        count = min(len(flat), _MOST_NEIGHBOURS_LOOKED_UP)
        chosen = np.linspace(0, len(flat) - 1, count).astype(int)
        training = self._training.reshape(len(self._training), -1)
        distance = neighbour_distance(flat[chosen], training, neighbour)
        return distance / np.sqrt(flat.shape[1]), chosen


def with_relative_distance(found: Measured, teacher: Measured) -> Measured:
    """Add the distance relative to the teacher's, from paired samples."""
    distances = found.replicates["distance_to_real"], teacher.replicates["distance_to_real"]
    estimate = {"relative_distance": distances[0].relative_distance(distances[1])}
    scores = found.scores.model_copy(update=flatten_estimates(estimate))
    return replace(found, scores=scores)


def relative_estimates(
    found: Measured, w: float, teachers: Mapping[float, Measured], labels: LabelArray
) -> dict[str, Estimate]:
    """Compare samples with the teacher's of the same w, classes and noise, by name of the check.

    The distance to training images is compared with the teacher's at the samples' effective w,
    because it grows with guidance: a student is not a copy because it is guided less.

    Args:
        found: the samples.
        w: requested guidance weight.
        teachers: the teacher's samples, by guidance weight.
        labels: classes of the samples.
    """
    teacher = teachers[w]
    ours, theirs = found.replicates, teacher.replicates
    estimates = {
        "distance": ours["distance_to_real"].relative_distance(theirs["distance_to_real"]),
        "score": ours["inception_score"].ratio(theirs["inception_score"]),
        "recall": ours["recall"].ratio(theirs["recall"]),
        "accuracy": _ratio_of_means(found.values["accuracy"], teacher.values["accuracy"], labels),
        "not copied": _ratio_of_means(
            found.values["nearest"],
            _nearest_at(found.scores.effective_w, w, teachers),
            found.nearest_labels,
        ),
    }
    if "prompt" in found.values and "prompt" in teacher.values:
        prompts = found.values["prompt"], teacher.values["prompt"]
        estimates["prompt"] = _ratio_of_means(*prompts, labels)
    return estimates


def _nearest_at(
    effective: float | None, w: float, teachers: Mapping[float, Measured]
) -> Float[np.ndarray, "_"]:
    """Interpolate the teacher's distances to training images at the effective w, in log(1 + w)."""
    known = sorted(teachers)
    if effective is None or len(known) == 1:
        return teachers[w].values["nearest"]
    at = float(np.clip(effective, known[0], known[-1]))
    above = min(max(int(np.searchsorted(known, at)), 1), len(known) - 1)
    low, high = known[above - 1], known[above]
    share = (np.log1p(at) - np.log1p(low)) / (np.log1p(high) - np.log1p(low))
    first, second = (teachers[each].values["nearest"] for each in (low, high))
    found: np.ndarray = (1 - share) * first + share * second
    return found


def _ratio_of_means(
    values: Float[np.ndarray, "n"], others: Float[np.ndarray, "n"], labels: LabelArray
) -> Estimate:
    """Compute the ratio of two means of paired samples, with its interval; 1 if the other is 0."""
    mean = float(others.mean())
    if mean == 0:
        return 1.0, Interval(1.0, 1.0)
    ratio = float(values.mean()) / mean
    differences = Bootstrap(labels, RESAMPLES, seed=0).mean(values - ratio * others, least=None)
    width = (differences[1].high - differences[1].low) / 2 / mean
    return ratio, Interval(ratio - width, ratio + width)


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
