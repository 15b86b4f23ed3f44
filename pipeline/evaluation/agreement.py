"""The report on data without classes: how near each student is to its teacher, noise by noise.

Without classes there is no classifier to measure with, and nothing here stands in for it but an
extractor where the recipe has one: without, no claim is made about real images, only about the
teacher's samples from the same noise and prompts.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pipeline.documents import Document
from pipeline.evaluation.agreement_figure import draw_agreement, draw_panel
from pipeline.evaluation.agreement_verdicts import verdict_section, verdicts_of
from pipeline.evaluation.asking import asked_of
from pipeline.evaluation.bootstrap import Bootstrap
from pipeline.evaluation.columns import against_pairs, setting_of
from pipeline.evaluation.comparing import Comparison, SampleSet, columns_of
from pipeline.evaluation.fidelity import Verdict, why_void
from pipeline.evaluation.metric_protocol import MetricProtocol
from pipeline.evaluation.panels import panel_section, panels_of, scores_of_means
from pipeline.evaluation.prompt_grid import draw_prompts, prompt_picture
from pipeline.evaluation.protocol import RESAMPLES, YARDSTICK_SEED_OFFSET, Cell, Panel, Report
from pipeline.evaluation.report import read_report
from pipeline.evaluation.sampling import Images, LabelArray
from pipeline.evaluation.scores import Range
from pipeline.evaluation.scoring import agreement_with, named
from pipeline.evaluation.tables import Line, protocol_table, table

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
