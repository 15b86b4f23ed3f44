"""Report on data without classes: agreement of students with their teacher.

Samples from the same noise measure the distance of a student to its teacher and the w that it
follows. An extractor, if configured, adds distance to real images and recall. Negative controls
go through the same checks.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np

from pipeline.evaluation.candidates import ReportInputs, SampleSet, columns_of
from pipeline.evaluation.documents import (
    NOISE_FLOOR_SEED_OFFSET,
    RESAMPLES,
    Agreement,
    AgreementProtocol,
    AgreementReport,
    AgreementRow,
    ExtractorMetrics,
)
from pipeline.evaluation.extractor_metrics import extractor_metrics_of, score_mean_images
from pipeline.evaluation.figures.curves import draw_agreement, draw_extractor_metrics
from pipeline.evaluation.figures.grids import draw_prompts, prompt_picture
from pipeline.evaluation.metric_specs import paired_metrics, protocol_context
from pipeline.evaluation.metrics.bootstrap import Bootstrap
from pipeline.evaluation.metrics.frechet import paired_rms
from pipeline.evaluation.reports.report_summary import write_report
from pipeline.evaluation.scores import ExtractorScores
from pipeline.evaluation.scoring import agreement_with, flatten_estimates, round_significant
from pipeline.evaluation.verdicts.checks import (
    Check,
    JudgedNetwork,
    Verdict,
    distance_check,
    over,
    recall_check,
    rms_check,
    w_consistency_check,
)
from pipeline.sampling.conditions import choose_conditions
from pipeline.sampling.sampler import Images, LabelArray

_TEACHERS_MEAN = "every sample is the teacher's mean image"


def verdicts_of(
    sets: Sequence[SampleSet],
    panels: Sequence[ExtractorMetrics],
    means: Mapping[float, ExtractorScores],
) -> tuple[Verdict, ...]:
    """Compute verdicts by w: students, then negative controls.

    A student whose samples are not paired with the teacher's has no verdict without an extractor
    and real images, because no check applies.

    Args:
        sets: all sample sets.
        panels: metrics of the extractors; the first one provides distance and recall.
        means: scores of the mean-image control in the first extractor's features, by guidance
            weight; empty without extractors.
    """
    checker = _Checker(sets, panels[0] if panels else None, means)
    return tuple(chain.from_iterable(checker.at(w) for w in checker.teachers))


@dataclass(frozen=True)
class _Judged:
    """A sample set to check.

    Attributes:
        judged: kind of the set: a student, or a negative control.
        title: display name.
        images: the samples.
        scores: scores in an extractor's features; None without extractors.
        is_paired: whether the sampler adds no noise after the starting noise.
    """

    judged: JudgedNetwork
    title: str
    images: Images
    scores: ExtractorScores | None
    is_paired: bool = True


class _Checker:
    def __init__(
        self,
        sets: Sequence[SampleSet],
        panel: ExtractorMetrics | None,
        means: Mapping[float, ExtractorScores],
    ) -> None:
        self.teachers = {each.cell.w: each for each in sets if each.cell.role == "teacher"}
        self._students = [each for each in sets if each.cell.role == "student"]
        self._scores = {row.cell: row.scores for row in panel.rows} if panel is not None else {}
        self._means = means

    def at(self, w: float) -> Iterator[Verdict]:
        """Yield the verdicts at one guidance weight."""
        teacher = self.teachers[w].load()
        for each in (each for each in self._students if each.cell.w == w):
            verdict = self._verdict(w, teacher, self._student(each))
            if any(check.is_bounded for check in verdict.checks):
                yield verdict
        for control in self._controls(w, teacher):
            yield self._verdict(w, teacher, control)

    def _student(self, each: SampleSet) -> _Judged:
        cell = each.cell
        images, scores = each.load(), self._scores.get(cell)
        return _Judged("student", cell.title, images, scores, is_paired=not cell.adds_noise)

    def _controls(self, w: float, teacher: Images) -> Iterator[_Judged]:
        mean = np.broadcast_to(teacher.mean(0), teacher.shape)
        yield _Judged("mean image", _TEACHERS_MEAN, mean, self._means.get(w))
        unguided = [s for s in self._students if s.cell.w == 0 and not s.cell.adds_noise]
        if unguided and w != 0:
            student = self._student(unguided[-1])
            yield replace(student, judged="w forced to 0", title=f"{student.title}, w forced to 0")

    def _verdict(self, w: float, teacher: Images, checked: _Judged) -> Verdict:
        teacher_scores = self._scores.get(self.teachers[w].cell)
        rms = round_significant(paired_rms(checked.images, teacher))
        by_features: Sequence[Check] = ()
        if checked.scores and teacher_scores:
            by_features = tuple(_by_features(w, checked.scores, teacher_scores))
        checks = [
            *by_features,
            rms_check(rms, is_paired=checked.is_paired),
            *([self._follows(w, rms, checked)] if len(self.teachers) > 1 else []),
        ]
        return Verdict(
            judged=checked.judged,
            title=checked.title,
            w=w,
            floor_factor=self._floor_factor(checked, teacher_scores),
            checks=tuple(checks),
        )

    @staticmethod
    def _floor_factor(checked: _Judged, teacher: ExtractorScores | None) -> float | None:
        """Compute the floor factor of a student; None for controls, whose scores are of another w.

        Without extractors there are no scores, so it is None too.
        """
        if checked.judged != "student" or checked.scores is None or teacher is None:
            return None
        return over(checked.scores.distance_to_teacher, teacher.distance_to_teacher)

    def _follows(self, w: float, rms: float, checked: _Judged) -> Check:
        """Check which w has the nearest teacher samples, by paired RMS."""
        rms_by_w = {
            at: rms if at == w else paired_rms(checked.images, each.load())
            for at, each in self.teachers.items()
        }
        nearest = min(rms_by_w, key=rms_by_w.__getitem__)
        return w_consistency_check(w, nearest, is_bounded=checked.is_paired)


def _by_features(w: float, scores: ExtractorScores, teacher: ExtractorScores) -> Iterator[Check]:
    """Yield the checks against real images; none without real images."""
    if scores.distance_to_real is not None and teacher.distance_to_real is not None:
        yield distance_check(w, scores.distance_to_real, teacher.distance_to_real)
    if scores.recall is not None and teacher.recall is not None:
        yield recall_check(scores.recall, teacher.recall)


CURVE = "curve.png"


def write_agreement(comparison: ReportInputs, folder: Path) -> AgreementReport:
    """Compute all metrics and write `report.json`, `report.md` and the figures into `folder`."""
    conditions = choose_conditions(comparison.data, comparison.recipe.evaluation.num_samples)
    seed = comparison.recipe.evaluation.seed
    weights = list(dict.fromkeys(each.cell.w for each in comparison.sets))
    rows: list[AgreementRow] = []
    for w in weights:
        sets = [each for each in comparison.sets if each.cell.w == w]
        reference = next(each for each in sets if each.cell.role == "teacher").load()
        others = [each for each in sets if each.cell.role != "teacher"]
        rows += [_row(each, reference, conditions.labels, seed) for each in others]
        title = f"{comparison.recipe.run.name}: same noise in every column, w = {w:g}"
        draw_prompts(title, columns_of(sets), conditions, folder / prompt_picture(w))
    shape = comparison.sets[0].load().shape[1:]
    setting = protocol_context(comparison, len(conditions.labels), shape)
    panels = extractor_metrics_of(comparison, conditions, setting)
    report = AgreementReport(
        run=comparison.recipe.run.name,
        protocol=AgreementProtocol(
            num_samples=len(conditions.labels),
            seed=seed,
            noise_floor_seed=seed + NOISE_FLOOR_SEED_OFFSET,
            reference_steps=comparison.recipe.teacher.reference_steps,
        ),
        rows=tuple(rows),
        data_notes=comparison.data_notes,
        verdicts=verdicts_of(comparison.sets, panels, score_mean_images(comparison, conditions)),
        pictures=(
            *(prompt_picture(w) for w in weights),
            *(CURVE, *(panel.curve for panel in panels)),
        ),
        metrics=tuple(paired_metrics(setting)),
        panels=panels,
    )
    write_report(report, folder)
    draw_agreement(report.run, rows, len(conditions.labels), folder / CURVE)
    for panel in panels:
        draw_extractor_metrics(report.run, panel, len(conditions.labels), folder / panel.curve)
    return report


def _row(each: SampleSet, reference: Images, labels: LabelArray, seed: int) -> AgreementRow:
    found = agreement_with(each.load(), reference, Bootstrap(labels, RESAMPLES, seed))
    scores = Agreement.model_validate(flatten_estimates(found))
    return AgreementRow(cell=each.cell, evaluations=each.evaluations, scores=scores)
