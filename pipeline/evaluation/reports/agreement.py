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
    SampleSpec,
)
from pipeline.evaluation.extractor_metrics import (
    ExtractorEstimates,
    measured_extractors,
    score_mean_images,
)
from pipeline.evaluation.figures.curves import draw_agreement, draw_extractor_metrics
from pipeline.evaluation.figures.grids import draw_prompts, prompt_picture
from pipeline.evaluation.metric_specs import paired_metrics, protocol_context
from pipeline.evaluation.metrics.bootstrap import Bootstrap, Estimate
from pipeline.evaluation.metrics.effective_w import TeacherSweep
from pipeline.evaluation.metrics.halves import HalfSamples
from pipeline.evaluation.reports.report_summary import write_report
from pipeline.evaluation.scoring import agreement_with, flatten_estimates, rms_estimate
from pipeline.evaluation.verdicts.checks import (
    JudgedNetwork,
    Verdict,
    effective_w_check,
    over,
    relative_check,
    rms_check,
)
from pipeline.sampling.conditions import choose_conditions
from pipeline.sampling.sampler import Images, LabelArray

_TEACHERS_MEAN = "every sample is the teacher's mean image"


def verdicts_of(
    sets: Sequence[SampleSet],
    by_features: Mapping[SampleSpec, ExtractorEstimates],
    means: Mapping[float, ExtractorEstimates],
    halves: HalfSamples,
) -> tuple[Verdict, ...]:
    """Compute verdicts by w: students, then negative controls.

    A student whose samples are not paired with the teacher's has no verdict without an extractor
    and real images, because no check applies.

    Args:
        sets: all sample sets.
        by_features: numbers of the first extractor, which provides distance and recall; empty
            without extractors.
        means: those of the mean-image control, by guidance weight; empty without extractors.
        halves: half-samples of the sets.
    """
    checker = _Checker(sets, by_features, means, halves)
    return tuple(chain.from_iterable(checker.at(w) for w in checker.teachers))


@dataclass(frozen=True)
class _Judged:
    """A sample set to check.

    Attributes:
        judged: kind of the set: a student, or a negative control.
        title: display name.
        images: the samples.
        found: numbers in an extractor's features; None without extractors.
        is_paired: whether the sampler adds no noise after the starting noise.
    """

    judged: JudgedNetwork
    title: str
    images: Images
    found: ExtractorEstimates | None
    is_paired: bool = True


class _Checker:
    def __init__(
        self,
        sets: Sequence[SampleSet],
        by_features: Mapping[SampleSpec, ExtractorEstimates],
        means: Mapping[float, ExtractorEstimates],
        halves: HalfSamples,
    ) -> None:
        self.teachers = {each.cell.w: each for each in sets if each.cell.role == "teacher"}
        self._students = [each for each in sets if each.cell.role == "student"]
        self._by_features, self._means, self._halves = by_features, means, halves
        self._sweep = TeacherSweep({w: each.load for w, each in self.teachers.items()}, {})

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
        images, found = each.load(), self._by_features.get(cell)
        return _Judged("student", cell.title, images, found, is_paired=not cell.adds_noise)

    def _controls(self, w: float, teacher: Images) -> Iterator[_Judged]:
        mean = np.broadcast_to(teacher.mean(0), teacher.shape)
        yield _Judged("mean image", _TEACHERS_MEAN, mean, self._means.get(w))
        unguided = [s for s in self._students if s.cell.w == 0 and not s.cell.adds_noise]
        if unguided and w != 0:
            student = self._student(unguided[-1])
            yield replace(student, judged="w forced to 0", title=f"{student.title}, w forced to 0")

    def _verdict(self, w: float, teacher: Images, checked: _Judged) -> Verdict:
        by_teacher = self._by_features.get(self.teachers[w].cell)
        bootstrap = Bootstrap(self._halves.labels, RESAMPLES, self._halves.seed)
        rms = flatten_estimates({"rms": rms_estimate(checked.images, teacher, bootstrap)})
        relative: Mapping[str, Estimate] = {}
        if checked.found and by_teacher:
            relative = checked.found.relative_to(by_teacher)
        checks = [relative_check(name, w, relative[name]) for name in relative]
        checks.append(rms_check(rms["rms"], rms["rms_interval"], is_paired=checked.is_paired))
        effective = self._effective_w(checked)
        if effective is not None:
            numbers = flatten_estimates({"w": effective})
            checks.append(effective_w_check(w, numbers["w"], numbers["w_interval"]))
        return Verdict(
            judged=checked.judged,
            title=checked.title,
            w=w,
            floor_factor=self._floor_factor(w, checked),
            checks=tuple(checks),
        )

    def _floor_factor(self, w: float, checked: _Judged) -> float | None:
        """Compute the floor factor of a student; None for controls and without extractors."""
        teacher = self._by_features.get(self.teachers[w].cell)
        if checked.judged != "student" or checked.found is None or teacher is None:
            return None
        found = checked.found.scores.distance_to_teacher
        return over(found, teacher.scores.distance_to_teacher)

    def _effective_w(self, checked: _Judged) -> Estimate | None:
        """Compute the effective w by paired samples, else by features; None with a single w."""
        if not checked.is_paired:
            return checked.found.effective_w if checked.found else None
        found = self._sweep.of_images(checked.images, self._halves)
        return None if found is None else found.estimate()


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
    measured = measured_extractors(comparison, conditions, setting)
    panels = tuple(each.metrics for each in measured)
    by_features = measured[0].by_cell if measured else {}
    means = score_mean_images(comparison, conditions)
    halves = HalfSamples(conditions.labels, seed)
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
        verdicts=verdicts_of(comparison.sets, by_features, means, halves),
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
