"""Metrics in the features of one extractor, each with its own protocol."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped] # it has no stubs

from pipeline.evaluation.candidates import ExtractorFeatures, ReportInputs
from pipeline.evaluation.documents import RESAMPLES, ExtractorMetrics, ExtractorRow, SampleSpec
from pipeline.evaluation.metric_protocol import MetricProtocol, Reference
from pipeline.evaluation.metric_specs import ProtocolContext, real_image_metrics, teacher_metric
from pipeline.evaluation.metrics.bootstrap import Bootstrap, Estimate
from pipeline.evaluation.metrics.effective_w import TeacherSweep
from pipeline.evaluation.metrics.frechet import Features, Moments, frechet_replicates
from pipeline.evaluation.metrics.halves import HalfSamples, Replicates
from pipeline.evaluation.metrics.real import RealImages
from pipeline.evaluation.scores import ExtractorScores
from pipeline.evaluation.scoring import flatten_estimates
from pipeline.sampling.conditions import Conditions


@dataclass(frozen=True)
class ExtractorEstimates:
    """Numbers of one sample set in an extractor's features.

    Attributes:
        scores: the scores.
        by_halves: distance and recall against real images, by half-samples; empty without them.
        effective_w: effective guidance weight by features, for samples from any noise; None with a
            single w.
    """

    scores: ExtractorScores
    by_halves: Mapping[str, Replicates]
    effective_w: Estimate | None

    def relative_to(self, teacher: "ExtractorEstimates") -> dict[str, Estimate]:
        """Compare distance and recall with those of paired samples, by name of the check."""
        ours, theirs = self.by_halves, teacher.by_halves
        if not ours or not theirs:
            return {}
        return {
            "distance": ours["distance_to_real"].relative_distance(theirs["distance_to_real"]),
            "recall": ours["recall"].ratio(theirs["recall"]),
        }


@dataclass(frozen=True)
class MeasuredExtractor:
    """Metrics of all sample sets in one extractor's features.

    Attributes:
        metrics: the metrics, for the report.
        by_cell: numbers of every set but the noise floors.
    """

    metrics: ExtractorMetrics
    by_cell: Mapping[SampleSpec, ExtractorEstimates]


def measured_extractors(
    comparison: ReportInputs, conditions: Conditions, setting: ProtocolContext
) -> tuple[MeasuredExtractor, ...]:
    """Compute the metrics of every sample set, once for each extractor."""
    cells = [(each.cell, each.evaluations) for each in comparison.sets]
    return tuple(
        measure_extractor(read, cells, conditions, setting) for read in comparison.readings
    )


def score_mean_images(
    comparison: ReportInputs, conditions: Conditions
) -> dict[float, ExtractorEstimates]:
    """Score the mean-image control: every sample replaced by the teacher's mean image.

    Uses the first extractor. Returns the numbers by guidance weight; empty without extractors.
    """
    if not comparison.readings:
        return {}
    read, cells = comparison.readings[0], [each.cell for each in comparison.sets]
    with threadpool_limits(1, user_api="blas"):
        scorer = _Scorer(read, conditions, cells)
        return {
            cell.w: scorer.estimates(read.mean_of(cell), cell)
            for cell in cells
            if cell.role == "teacher"
        }


def measure_extractor(
    read: ExtractorFeatures,
    cells: Sequence[tuple[SampleSpec, int]],
    conditions: Conditions,
    setting: ProtocolContext,
) -> MeasuredExtractor:
    """Compute all metrics in one extractor's features.

    Args:
        read: the extractor's features.
        cells: sample sets, each with the network evaluations per sample.
        conditions: conditions of the samples.
        setting: values shared by the protocols.
    """
    with threadpool_limits(1, user_api="blas"):
        scorer = _Scorer(read, conditions, [cell for cell, _ in cells])
        found = {
            cell: scorer.estimates(read.of(cell), cell)
            for cell, _ in cells
            if cell.role != "noise_floor"
        }
        real = ExtractorScores.model_validate(flatten_estimates(scorer.score_real(setting.seed)))
    teachers = {cell.w: found[cell] for cell in found if cell.role == "teacher"}
    rows = tuple(
        ExtractorRow(
            cell=cell,
            evaluations=cost,
            scores=_with_relative_distance(found[cell], teachers.get(cell.w)),
        )
        for cell, cost in cells
        if cell in found
    )
    metrics = ExtractorMetrics(
        extractor=read.name,
        kind=read.kind,
        metrics=tuple(
            metric.model_copy(update={"extractor_identity": read.identity})
            for metric in _protocols(read, setting)
        ),
        rows=rows,
        real=real if read.prompts is not None and read.heldout is not None else None,
    )
    return MeasuredExtractor(metrics, found)


def _with_relative_distance(
    found: ExtractorEstimates, teacher: ExtractorEstimates | None
) -> ExtractorScores:
    relative = found.relative_to(teacher) if teacher else {}
    if not relative:
        return found.scores
    numbers = flatten_estimates({"relative_distance": relative["distance"]})
    return found.scores.model_copy(update=numbers)


class _Scorer:
    """Scores sample sets against shared references (held-out images, prompts)."""

    def __init__(
        self, read: ExtractorFeatures, conditions: Conditions, cells: Sequence[SampleSpec]
    ) -> None:
        self._read, self._conditions = read, conditions
        others = {cell.w: read.of(cell) for cell in cells if cell.role == "noise_floor"}
        self._sweep = TeacherSweep({}, others)
        self._floors = {w: Moments.of(features) for w, features in others.items()}
        self._heldout = (
            None if read.heldout is None else RealImages(read.heldout, read.heldout_labels)
        )

    def estimates(self, features: Features, cell: SampleSpec) -> ExtractorEstimates:
        labels = self._conditions.labels
        bootstrap, halves = Bootstrap(labels, RESAMPLES, cell.seed), HalfSamples(labels, cell.seed)
        floor = frechet_replicates(self._floors[cell.w], features, halves)
        found = {"distance_to_teacher": floor.estimate()}
        by_halves: Mapping[str, Replicates] = {}
        if self._heldout is not None:
            numbers, by_halves = self._heldout.compare(features, bootstrap, halves)
            found |= numbers
        if self._read.prompts is not None:
            found["clip_score"] = bootstrap.mean(clip_scores(features, self._read.prompts))
        effective = self._sweep.of_features(features, halves) if cell.adds_noise else None
        return ExtractorEstimates(
            ExtractorScores.model_validate(flatten_estimates(found)),
            by_halves,
            None if effective is None else effective.estimate(),
        )

    def score_real(self, seed: int) -> dict[str, Estimate]:
        """Compute the CLIP score of real images and their own captions; empty without captions."""
        heldout, prompts, rows = self._read.heldout, self._read.prompts, self._conditions.rows
        if heldout is None or prompts is None or rows is None:
            return {}
        bootstrap = Bootstrap(self._conditions.labels, RESAMPLES, seed)
        return {"clip_score": bootstrap.mean(clip_scores(heldout[rows], prompts))}


def clip_scores(images: Features, prompts: Features) -> Float[np.ndarray, "_"]:
    """Compute 100 max(cos(image, prompt), 0) of every pair `[n]`.

    Source: Hessel et al. 2021, arXiv:2104.08718, eq. 1, with a weight of 100 for their 2.5.
    """
    x, y = images.astype(np.float64), prompts.astype(np.float64)
    lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    found: np.ndarray = 100 * np.maximum(np.sum(x * y, axis=1) / lengths, 0)
    return found


def _protocols(read: ExtractorFeatures, setting: ProtocolContext) -> list[MetricProtocol]:
    extractor = (read.name, read.sha256)
    found = []
    if read.heldout is not None:
        real = setting.real("heldout", len(read.heldout))
        found = real_image_metrics(setting, extractor, real, read.distance)
    found.append(teacher_metric(setting, extractor))
    if read.prompts is not None:
        prompt = Reference(name="the prompt", data_sha256=setting.data_sha256, split="heldout")
        found.append(setting.metric("clip_score", extractor, prompt))
    return found
