"""Metrics in the features of one extractor, each with its own protocol."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped] # it has no stubs

from pipeline.evaluation.candidates import ExtractorFeatures, ReportInputs
from pipeline.evaluation.documents import RESAMPLES, ExtractorMetrics, ExtractorRow, SampleSpec
from pipeline.evaluation.metric_protocol import MetricProtocol, Reference
from pipeline.evaluation.metric_specs import ProtocolContext, real_image_metrics, teacher_metric
from pipeline.evaluation.metrics.bootstrap import Bootstrap, Estimate
from pipeline.evaluation.metrics.frechet import Features, Moments, frechet_replicates
from pipeline.evaluation.metrics.halves import HalfSamples
from pipeline.evaluation.metrics.real import RealImages
from pipeline.evaluation.scores import ExtractorScores
from pipeline.evaluation.scoring import flatten_estimates
from pipeline.sampling.conditions import Conditions


def extractor_metrics_of(
    comparison: ReportInputs, conditions: Conditions, setting: ProtocolContext
) -> tuple[ExtractorMetrics, ...]:
    """Compute the metrics of every sample set, once for each extractor."""
    cells = [(each.cell, each.evaluations) for each in comparison.sets]
    return tuple(
        measure_extractor(read, cells, conditions, setting) for read in comparison.readings
    )


def score_mean_images(
    comparison: ReportInputs, conditions: Conditions
) -> dict[float, ExtractorScores]:
    """Score the mean-image control: every sample replaced by the teacher's mean image.

    Uses the first extractor. Returns the scores by guidance weight; empty without extractors.
    """
    if not comparison.readings:
        return {}
    read, cells = comparison.readings[0], [each.cell for each in comparison.sets]
    with threadpool_limits(1, user_api="blas"):
        scorer, floors = _Scorer(read, conditions), _noise_floors(read, cells)
        return {
            cell.w: scorer.score(read.mean_of(cell), cell.seed, floors[cell.w])
            for cell in cells
            if cell.role == "teacher"
        }


def measure_extractor(
    read: ExtractorFeatures,
    cells: Sequence[tuple[SampleSpec, int]],
    conditions: Conditions,
    setting: ProtocolContext,
) -> ExtractorMetrics:
    """Compute all metrics in one extractor's features.

    Args:
        read: the extractor's features.
        cells: sample sets, each with the network evaluations per sample.
        conditions: conditions of the samples.
        setting: values shared by the protocols.
    """
    with threadpool_limits(1, user_api="blas"):
        scorer, floors = _Scorer(read, conditions), _noise_floors(read, [cell for cell, _ in cells])
        rows = tuple(
            ExtractorRow(
                cell=cell,
                evaluations=cost,
                scores=scorer.score(read.of(cell), cell.seed, floors[cell.w]),
            )
            for cell, cost in cells
            if cell.role != "noise_floor"
        )
        real = ExtractorScores.model_validate(flatten_estimates(scorer.score_real(setting.seed)))
    return ExtractorMetrics(
        extractor=read.name,
        kind=read.kind,
        metrics=tuple(
            metric.model_copy(update={"extractor_identity": read.identity})
            for metric in _protocols(read, setting)
        ),
        rows=rows,
        real=real if read.prompts is not None and read.heldout is not None else None,
    )


def _noise_floors(read: ExtractorFeatures, cells: Sequence[SampleSpec]) -> dict[float, Moments]:
    return {cell.w: Moments.of(read.of(cell)) for cell in cells if cell.role == "noise_floor"}


class _Scorer:
    """Scores sample sets against shared references (held-out images, prompts)."""

    def __init__(self, read: ExtractorFeatures, conditions: Conditions) -> None:
        self._read, self._conditions = read, conditions
        self._heldout = (
            None if read.heldout is None else RealImages(read.heldout, read.heldout_labels)
        )

    def score(self, features: Features, seed: int, floor: Moments) -> ExtractorScores:
        labels = self._conditions.labels
        bootstrap, halves = Bootstrap(labels, RESAMPLES, seed), HalfSamples(labels, seed)
        found = {"distance_to_teacher": frechet_replicates(floor, features, halves).estimate()}
        if self._heldout is not None:
            found |= self._heldout.compare(features, bootstrap, halves)[0]
        if self._read.prompts is not None:
            found["clip_score"] = bootstrap.mean(clip_scores(features, self._read.prompts))
        return ExtractorScores.model_validate(flatten_estimates(found))

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
