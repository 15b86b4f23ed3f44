"""Is a student as good as its teacher, where data have no classes? What can be asked there.

Samples of the same noise tell how far a student is from its teacher and which w it follows. An
extractor, where the recipe has one, tells how near it is to real images and how various. There are
controls here too, of which the same is asked.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np

from pipeline.documents import Document
from pipeline.evaluation.candidates import Comparison, SampleSet, columns_of
from pipeline.evaluation.documents import RESAMPLES, YARDSTICK_SEED_OFFSET, Cell, Panel, Report
from pipeline.evaluation.extractor_metrics import panel_section, panels_of, scores_of_means
from pipeline.evaluation.figures.curves import draw_agreement, draw_panel
from pipeline.evaluation.figures.grids import draw_prompts, prompt_picture
from pipeline.evaluation.metric_protocol import MetricProtocol
from pipeline.evaluation.metric_specs import against_pairs, setting_of
from pipeline.evaluation.metrics.bootstrap import Bootstrap
from pipeline.evaluation.metrics.frechet import paired_rms
from pipeline.evaluation.reports.markdown import read_report
from pipeline.evaluation.scores import PanelScores, Range
from pipeline.evaluation.scoring import agreement_with, kept, named
from pipeline.evaluation.tables import Line, protocol_table, table
from pipeline.evaluation.verdicts.checks import (
    NOT_PAIRED,
    Check,
    Judged,
    Verdict,
    distance_check,
    follows_check,
    over,
    recall_check,
    rms_check,
    why_void,
)
from pipeline.sampling.conditions import asked_of
from pipeline.sampling.sampler import Images, LabelArray

_TEACHERS_MEAN = "every sample the mean of the teacher's"


def verdicts_of(
    sets: Sequence[SampleSet], panels: Sequence[Panel], means: Mapping[float, PanelScores]
) -> tuple[Verdict, ...]:
    """Verdicts by w: on students, then on the controls.

    Of a student whose samples are no pairs of the teacher's nothing can be asked without real
    images in an extractor's features, and so nothing is said.

    Args:
        sets: all that is compared.
        panels: the first one is asked for distance and recall.
        means: in its features, the mean of the teacher's samples in the place of each of them, by
            guidance weight; empty without a panel.
    """
    judge = _Judge(sets, panels[0] if panels else None, means)
    return tuple(chain.from_iterable(judge.at(w) for w in judge.teachers))


@dataclass(frozen=True)
class _Judged:
    """Samples and who made them.

    Attributes:
        judged: a student, or the control that stands for a bad one.
        title: what a person calls it.
        images: the samples.
        scores: of them in an extractor's features, if there is one.
        is_paired: whether the noise they began from is all the noise in them.
    """

    judged: Judged
    title: str
    images: Images
    scores: PanelScores | None
    is_paired: bool = True


class _Judge:
    def __init__(
        self,
        sets: Sequence[SampleSet],
        panel: Panel | None,
        means: Mapping[float, PanelScores],
    ) -> None:
        self.teachers = {each.cell.w: each for each in sets if each.cell.role == "teacher"}
        self._students = [each for each in sets if each.cell.role == "student"]
        self._scores = {row.cell: row.scores for row in panel.rows} if panel is not None else {}
        self._means = means

    def at(self, w: float) -> Iterator[Verdict]:
        """The verdicts at one guidance weight."""
        teacher = self.teachers[w].load()
        for each in (each for each in self._students if each.cell.w == w):
            verdict = self._verdict(w, teacher, self._student(each))
            if any(check.is_asked for check in verdict.checks):
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
            yield replace(student, judged="w forced to 0", title=f"{student.title}, told w = 0")

    def _verdict(self, w: float, teacher: Images, found: _Judged) -> Verdict:
        its = self._scores.get(self.teachers[w].cell)
        rms = kept(paired_rms(found.images, teacher))
        checks = [
            *(_by_features(w, found.scores, its) if found.scores and its else ()),
            rms_check(rms, is_paired=found.is_paired),
            *([self._follows(w, rms, found)] if len(self.teachers) > 1 else []),
        ]
        return Verdict(
            judged=found.judged,
            title=found.title,
            w=w,
            floor_factor=self._floor_factor(found, its),
            checks=tuple(checks),
        )

    @staticmethod
    def _floor_factor(found: _Judged, teacher: PanelScores | None) -> float | None:
        """That of a student; a control's distance is none to the teacher at this w."""
        if found.judged != "student" or found.scores is None or teacher is None:
            return None
        return over(found.scores.distance_to_teacher, teacher.distance_to_teacher)

    def _follows(self, w: float, rms: float, found: _Judged) -> Check:
        """Which w's teacher is nearest, noise by noise."""
        apart = {
            at: rms if at == w else paired_rms(found.images, each.load())
            for at, each in self.teachers.items()
        }
        nearest = min(apart, key=apart.__getitem__)
        return follows_check(w, nearest, is_asked=found.is_paired)


def _by_features(w: float, mine: PanelScores, its: PanelScores) -> Iterator[Check]:
    """Against real images, as a ratio to the teacher's; nothing where there are none."""
    if mine.distance_to_real is not None and its.distance_to_real is not None:
        yield distance_check(w, mine.distance_to_real, its.distance_to_real)
    if mine.recall is not None and its.recall is not None:
        yield recall_check(mine.recall, its.recall)


def verdict_section(verdicts: Sequence[Verdict], panels: Sequence[Panel]) -> str:
    """The verdicts for people: what was asked, a table of all, what was not asked and why."""
    students = [verdict for verdict in verdicts if verdict.judged == "student"]
    if not students:
        return "No student was judged.\n"
    names = list(dict.fromkeys(check.name for each in students for check in each.checks))
    void = why_void(verdicts)
    head = f"| w | samples | {' | '.join(names)} | |\n|--:|---|{'--:|' * len(names)}---|\n"
    lines = [_check_line(each, names, "void" if void else "") for each in students]
    lines += [_check_line(each, names) for each in verdicts if each.judged != "student"]
    passed = sum(verdict.passed for verdict in students)
    counted = f"{passed} of {len(students)} students' rows pass every check."
    told = [void or counted, "What fails is bold."]
    if "distance" in names:
        told.append(
            f"Distance and recall are ratios to the teacher's own, in the features of "
            f"{panels[0].extractor}."
        )
    if not all(check.is_asked for each in students for check in each.checks):
        told.append(f"{NOT_PAIRED}.")
    return f"{' '.join(told)}\n\n{head}{''.join(lines)}"


def _check_line(verdict: Verdict, names: Sequence[str], instead: str = "") -> str:
    checks = {check.name: check for check in verdict.checks}
    values = [checks[name].in_a_table if name in checks else "-" for name in names]
    title = verdict.title if verdict.judged == "student" else f"*control: {verdict.title}*"
    end = instead or ("pass" if verdict.passed else "fail")
    return f"| {' | '.join([f'{verdict.w:g}', title, *values, end])} |\n"


CURVE = "curve.png"

UNPAIRED = (
    "Stochastic students of several steps add noise on their way, so that no sample of theirs "
    "belongs to one of the teacher's, and its RMS says little of them."
)


class Agreement(Document):
    """How far samples are from the teacher's of the same noise; pixels in [-1, 1].

    Whatever ends in `_interval` is the 95 % bootstrap interval of the number before it.

    Attributes:
        rms_to_teacher: root mean square difference.
        psnr_to_teacher: peak signal-to-noise ratio in dB, mean over images.
        ssim_to_teacher: structural similarity, mean over images; None for images too small for it.
    """

    rms_to_teacher: float
    rms_to_teacher_interval: Range
    psnr_to_teacher: float | None = None
    psnr_to_teacher_interval: Range | None = None
    ssim_to_teacher: float | None = None
    ssim_to_teacher_interval: Range | None = None


class AgreementRow(Document):
    """A cell, what one sample cost in evaluations of the network, and what was measured."""

    cell: Cell
    evaluations: int
    scores: Agreement


class AgreementProtocol(Document):
    """How the numbers were made."""

    num_samples: int
    seed: int
    yardstick_seed: int
    reference_steps: int
    w_convention: str = "guidance_scale = 1 + w; w = 0 is unguided"


class AgreementReport(Document):
    """The result: content only, no times, dates or absolute paths.

    Attributes:
        run: the recipe's name.
        protocol: how it was measured.
        rows: by w: the yardstick, which is the teacher from other noise and so says how far
            unrelated samples are from each other, then students and training-free samplers.
        verdicts: how faithful each student is, and that the controls, bad on purpose, are not.
        pictures: file names beside the report.
        metrics: how each number of a row was made.
        panels: the same sets of samples in the features of extractors.
    """

    format_version: Literal[2] = 2
    kind: Literal["agreement"] = "agreement"
    run: str
    protocol: AgreementProtocol
    rows: tuple[AgreementRow, ...]
    verdicts: tuple[Verdict, ...] = ()
    pictures: tuple[str, ...]
    metrics: tuple[MetricProtocol, ...] = ()
    panels: tuple[Panel, ...] = ()


def read_agreement(folder: Path) -> AgreementReport:
    """Read the `report.json` of a folder."""
    text = (folder / "report.json").read_text(encoding="utf-8")
    return AgreementReport.model_validate_json(text)


def read_either(folder: Path) -> Report | AgreementReport:
    """Read the `report.json` of a folder, of whichever kind it is."""
    tree = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return read_agreement(folder) if tree.get("kind") == "agreement" else read_report(folder)


def write_agreement(comparison: Comparison, folder: Path) -> AgreementReport:
    """Measure, and write `report.json`, `report.md` and a picture for each guidance weight."""
    asked = asked_of(comparison.data, comparison.recipe.evaluation.num_samples)
    seed = comparison.recipe.evaluation.seed
    weights = list(dict.fromkeys(each.cell.w for each in comparison.sets))
    rows: list[AgreementRow] = []
    for w in weights:
        sets = [each for each in comparison.sets if each.cell.w == w]
        reference = next(each for each in sets if each.cell.role == "teacher").load()
        others = [each for each in sets if each.cell.role != "teacher"]
        rows += [_row(each, reference, asked.labels, seed) for each in others]
        title = f"{comparison.recipe.run.name}: the same noise in every column, w = {w:g}"
        draw_prompts(title, columns_of(sets), asked, folder / prompt_picture(w))
    shape = comparison.sets[0].load().shape[1:]
    setting = setting_of(comparison, len(asked.labels), shape)
    panels = panels_of(comparison, asked, setting)
    report = AgreementReport(
        run=comparison.recipe.run.name,
        protocol=AgreementProtocol(
            num_samples=len(asked.labels),
            seed=seed,
            yardstick_seed=seed + YARDSTICK_SEED_OFFSET,
            reference_steps=comparison.recipe.teacher.reference_steps,
        ),
        rows=tuple(rows),
        verdicts=verdicts_of(comparison.sets, panels, scores_of_means(comparison, asked)),
        pictures=(
            *(prompt_picture(w) for w in weights),
            *(CURVE, *(panel.curve for panel in panels)),
        ),
        metrics=tuple(against_pairs(setting)),
        panels=panels,
    )
    text = json.dumps(report.model_dump(mode="json"), indent=1, ensure_ascii=False)
    (folder / "report.json").write_text(text + "\n", encoding="utf-8")
    (folder / "report.md").write_text(_markdown(report, weights), encoding="utf-8")
    draw_agreement(report.run, rows, len(asked.labels), folder / CURVE)
    for panel in panels:
        draw_panel(report.run, panel, len(asked.labels), folder / panel.curve)
    return report


def _row(each: SampleSet, reference: Images, labels: LabelArray, seed: int) -> AgreementRow:
    found = agreement_with(each.load(), reference, Bootstrap(labels, RESAMPLES, seed))
    scores = Agreement.model_validate(named(found))
    return AgreementRow(cell=each.cell, evaluations=each.evaluations, scores=scores)


def _markdown(report: AgreementReport, weights: Sequence[float]) -> str:
    parts = [f"# {report.run}: students against their teacher\n"]
    void = why_void(report.verdicts)
    parts += [f"**{void}**\n"] if void else []
    parts += [f"![{Path(name).stem}]({name})\n" for name in report.pictures]
    protocol = report.protocol
    parts.append(
        f"Agreement with the teacher's {protocol.reference_steps}-step sample of the same prompt "
        f"and noise, {protocol.num_samples} samples a row; in brackets, 95 % bootstrap intervals. "
        f"The teacher from other noise says how far unrelated samples are.{_silent(report)} "
        "guidance_scale is 1 + w.\n"
    )
    # with an extractor they are judged, and that is said there
    if any(row.cell.adds_noise for row in report.rows) and not report.panels:
        parts.append(f"{UNPAIRED}\n")
    parts.append(f"## Faithful?\n\n{verdict_section(report.verdicts, report.panels)}")
    for w in weights:
        lines = [_line(row) for row in report.rows if row.cell.w == w]
        parts.append(f"## w = {w:g}\n\n{table(report.metrics, lines)}")
    parts += ["## How each number was made\n", protocol_table(report.metrics)]
    return "\n".join([*parts, *(panel_section(panel) for panel in report.panels)])


def _silent(report: AgreementReport) -> str:
    if any(row.scores.distance_to_real for panel in report.panels for row in panel.rows):
        return ""
    return " The data have no classes, so nothing is said of real images."


def _line(row: AgreementRow) -> Line:
    name = row.cell.title
    if row.cell.role == "yardstick":
        name = f"*{name}, other noise*"
    return Line(name, str(row.evaluations), row.scores.model_dump())
