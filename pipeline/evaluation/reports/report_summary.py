"""View of a report: the text and tables that report.md, page, terminal, MLflow and cards show.

Numbers are formatted here only, so that all of them show the same ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.evaluation.documents import (
    AgreementReport,
    AgreementRow,
    AnyReport,
    AnyRow,
    Report,
    Row,
    SampleSpec,
    write_json,
)
from pipeline.evaluation.file_names import REPORT_MARKDOWN
from pipeline.evaluation.reports.comparisons import (
    check_table,
    equal_cost,
    equal_evaluations,
    teacher_of,
    trade_off,
)
from pipeline.evaluation.tables import (
    Section,
    Table,
    class_tables,
    format_estimate,
    main_metric,
    metric_of,
    protocol_table,
    sections_of,
)
from pipeline.evaluation.verdicts.checks import (
    EFFECTIVE_W,
    EFFECTIVE_W_MARGIN,
    UNPAIRED_RMS_NOTE,
    Answer,
    Check,
    Verdict,
    needed_text,
    void_reason,
)
from pipeline.wording import format_count, format_list

R = TypeVar("R", Row, AgreementRow)

UNPAIRED_AGREEMENT_NOTE = (
    "Stochastic students with several steps add noise while sampling, so their samples do not "
    "correspond to the teacher's, and their RMS to the teacher is not meaningful."
)


@dataclass(frozen=True)
class StudentVerdict:
    """Verdict on a student at one guidance weight, as a cell of the verdict table.

    Attributes:
        answer: whether every check passes; None without a verdict.
        details: lines of detail, such as "distance 1.25".
    """

    answer: Answer | None
    details: tuple[str, ...]


@dataclass(frozen=True)
class VerdictTable:
    """Verdicts on all students.

    Attributes:
        sentences: summary; the headline first.
        weights: guidance weights, the columns.
        rows: students by title, each with a cell per guidance weight.
        bounds: description of the bounds.
    """

    sentences: tuple[str, ...]
    weights: tuple[float, ...]
    rows: tuple[tuple[str, tuple[StudentVerdict, ...]], ...]
    bounds: str

    @property
    def failures(self) -> list[str]:
        """One line per student and guidance weight with checks that fail or are undecided."""
        return [
            f"w = {w:g}, {title}: {'; '.join(cell.details)}"
            for title, cells in self.rows
            for w, cell in zip(self.weights, cells, strict=True)
            if cell.answer in ("no", "cannot tell")
        ]


_NO_VERDICT = StudentVerdict(None, ("no verdict",))


class ReportView:
    """A report as text and tables."""

    def __init__(self, report: AnyReport) -> None:
        """Show a report."""
        self.report = report

    @cached_property
    def judgement(self) -> VerdictTable:
        """Summary and verdicts."""
        return summarise_verdicts(self.report)

    @cached_property
    def sections(self) -> list[Section]:
        """The report's own metrics, then those of each extractor."""
        return sections_of(self.report)

    @cached_property
    def tables(self) -> tuple[Table, ...]:
        """Tables of all metrics, by section and guidance weight."""
        return tuple(
            each for part in self.sections for w in self.report.weights for each in part.tables(w)
        )

    @cached_property
    def by_class(self) -> tuple[Table, ...]:
        """Accuracy by class, by guidance weight; empty without classes or with too many."""
        return class_tables(self.report)

    @cached_property
    def protocols(self) -> tuple[Table, ...]:
        """Protocols of the metrics, by section."""
        return tuple(protocol_table(each.metrics, each.title) for each in self.sections)

    @cached_property
    def equal_cost(self) -> tuple[Table, ...]:
        """Students against training-free samplers of no more evaluations; empty without classes."""
        return (equal_cost(self.report),) if isinstance(self.report, Report) else ()

    @cached_property
    def sweep(self) -> tuple[Table, ...]:
        """Distance at equal evaluations by w, then the trade-off over w; empty without classes.

        As in the tables of Meng et al. 2022, arXiv:2210.03142.
        """
        report = self.report
        if isinstance(report, AgreementReport):
            return ()
        found = [equal_evaluations(report, w) for w in report.weights]
        return (*found, *([trade_off(report)] if len(report.weights) > 1 else []))

    @cached_property
    def checks(self) -> Table | None:
        """All checks of students and negative controls; None without verdicts."""
        return check_table(self.report.verdicts)

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """Measurement settings, line by line."""
        return _notes(self.report)

    @property
    def markdown(self) -> str:
        """The whole report in Markdown."""
        return _render("report.md.jinja", view=self)

    @property
    def summary(self) -> str:
        """Headline, summary and verdicts in Markdown."""
        return _render("summary.md.jinja", view=self)


def write_report(report: AnyReport, folder: Path) -> None:
    """Write `report.json` and `report.md` into `folder`."""
    write_json(report, folder)
    (folder / REPORT_MARKDOWN).write_text(ReportView(report).markdown, encoding="utf-8")


def _render(name: str, **content: Any) -> str:
    # Markdown, not HTML: nothing to escape
    environment = Environment(  # noqa: S701
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(name).render(**content)


def summarise_verdicts(report: AnyReport) -> VerdictTable:
    """Summarise the verdicts of a report; without verdicts, the main metric of each student."""
    judged = [verdict for verdict in report.verdicts if verdict.judged == "student"]
    students = [row for row in report.rows if row.cell.role == "student"]
    void = void_reason(report.verdicts)
    if judged:
        found = {(v.title, v.w): _cell(report, v, is_void=bool(void)) for v in judged}
        headline = [void] if void else _headlines(judged, report.protocol.num_samples)
        bounds = _bounds(report, judged)
    else:
        found = {(row.cell.title, row.cell.w): _unjudged(report, row) for row in students}
        headline, bounds = (), _unjudged_note(report)
    weights = tuple(report.weights)
    rows = tuple(
        (title, tuple(found.get((title, w), _NO_VERDICT) for w in weights))
        for title in dict.fromkeys(row.cell.title for row in students)
    )
    sentences = (*headline, *_costs(report), *_controls(report.verdicts), *_real_images(report))
    return VerdictTable(sentences, weights, rows, bounds)


def passing_students(report: AnyReport) -> list[SampleSpec]:
    """Return the sets of students that pass every check; empty if the verdicts are void."""
    passed = {(v.title, v.w) for v in report.verdicts if v.judged == "student" and v.passed}
    cells = (row.cell for row in report.rows if row.cell.role == "student")
    return [] if void_reason(report.verdicts) else [c for c in cells if (c.title, c.w) in passed]


def _cell(report: AnyReport, verdict: Verdict, *, is_void: bool) -> StudentVerdict:
    num = report.protocol.num_samples
    lines = []
    for check in verdict.checks:
        if check.answer == "no":
            lines.append(f"{_value(check)}, required {_bound(check)}")
        elif check.answer == "cannot tell":
            needed = needed_text(check.samples_needed(num))
            lines.append(
                f"{_value(check)}, required {_bound(check)}: {num:,} samples cannot tell, {needed}"
            )
    if not lines:
        lines = ["all checks pass", _value(verdict.checks[0])]
    unbounded = [
        f"{check.name} is not checked"
        for check in verdict.checks
        if not check.is_bounded and not (check.name == EFFECTIVE_W and verdict.w == 0)
    ]
    return StudentVerdict(None if is_void else verdict.answer, (*lines, *unbounded))


def _value(check: Check) -> str:
    """Format a check's value with its interval."""
    return f"{check.name} {format_estimate((check.value, check.interval), '.3g')}"


def _unjudged(report: AnyReport, row: AnyRow) -> StudentVerdict:
    value = metric_of(row, main_metric(report)[0])
    name = "distance" if isinstance(report, Report) else "RMS"
    return StudentVerdict(None, () if value is None else (f"{name} {format_estimate(value)}",))


def _unjudged_note(report: AnyReport) -> str:
    unit = "Distance to real images." if isinstance(report, Report) else "Pixels in [-1, 1]."
    noisy = any(row.cell.adds_noise for row in report.rows if row.cell.role == "student")
    is_unpaired = noisy and isinstance(report, AgreementReport)
    note = f" {UNPAIRED_AGREEMENT_NOTE}" if is_unpaired else ""
    return f"{unit} 95 % intervals in parentheses.{note}"


def _bound(check: Check) -> str:
    if check.least is not None and check.most is not None:
        return f"{check.least:g} to {check.most:g}"
    return f"at most {check.most:g}" if check.most is not None else f"at least {check.least:g}"


def _headlines(students: Sequence[Verdict], num: int) -> tuple[str, ...]:
    """Name the students that pass every check, then those of which the samples cannot tell."""
    every = list(dict.fromkeys(verdict.w for verdict in students))
    good = _by_title([verdict for verdict in students if verdict.answer == "yes"], every)
    open_ones = [verdict for verdict in students if verdict.answer == "cannot tell"]
    found = ["No student is shown to pass every check at any guidance weight."]
    if good:
        found = [f"Every check passes for: {good}."]
    elif not open_ones:
        found = ["No student passes every check at any guidance weight."]
    if open_ones:
        needed = max(verdict.samples_needed(num) or 0 for verdict in open_ones)
        names = _by_title(open_ones, every)
        found.append(f"{num:,} samples cannot tell for: {names}; {needed_text(needed)}.")
    return tuple(found)


def _by_title(verdicts: Sequence[Verdict], every: Sequence[float]) -> str:
    """List students with their guidance weights; "every w" of several."""
    found: dict[str, list[float]] = {}
    for verdict in verdicts:
        found.setdefault(verdict.title, []).append(verdict.w)
    return "; ".join(
        f"{title} (every w)"
        if 1 < len(every) == len(weights)
        else f"{title} (w = {join_numbers(weights)})"
        for title, weights in found.items()
    )


def _costs(report: AnyReport) -> tuple[str, ...]:
    """Compare each ladder's student of the fewest steps with the teacher."""
    if isinstance(report, AgreementReport):
        return tuple(_agreement(report, last) for last in _last_of_each_ladder(report.rows))
    return tuple(_cost(report, last) for last in _last_of_each_ladder(report.rows))


def _cost(report: Report, last: Sequence[Row]) -> str:
    """Compare evaluations and distance to real images."""
    ratios = [_relative_distance(report, row) for row in last]
    cost = format_count(last[0].evaluations, "network evaluation")
    teacher_cost = teacher_of(report, last[-1]).evaluations
    return (
        f"The {_name(last[0].cell)} needs {cost} per sample, the teacher {teacher_cost}. Its "
        f"distance to real images is {format_list(ratios)} times the teacher's at w = "
        f"{join_numbers([r.cell.w for r in last])}."
    )


def _relative_distance(report: Report, row: Row) -> str:
    """Format the distance relative to the teacher's; that of earlier reports is a ratio."""
    found = metric_of(row, "relative_distance")
    if found is None:
        teacher = teacher_of(report, row).scores.distance_to_real
        found = row.scores.distance_to_real / teacher, None
    return format_estimate(found, ".2f")


def _agreement(report: AgreementReport, last: Sequence[AgreementRow]) -> str:
    """Compare samples from the same noise."""
    rms = [
        format_estimate((row.scores.rms_to_teacher, row.scores.rms_to_teacher_interval), ".2f")
        for row in last
    ]
    unrelated = [r.scores.rms_to_teacher for r in report.rows if r.cell.role == "noise_floor"]
    return (
        f"The {_name(last[0].cell)} differs from the teacher's sample from the same noise by RMS "
        f"{format_list(rms)} at w = {join_numbers([row.cell.w for row in last])}; unrelated "
        f"samples of the teacher differ by {join_numbers(unrelated, '.2f')}."
    )


def _last_of_each_ladder(rows: Sequence[R]) -> list[list[R]]:
    """Return the rows by w of the student with the fewest steps, for each ladder."""
    students = [row for row in rows if row.cell.role == "student"]
    # the stage-1 student belongs to no ladder; it is used only if there are no others
    ladders: dict[bool, list[R]] = {}
    for row in [row for row in students if row.cell.round != 0] or students:
        ladders.setdefault(row.cell.is_stochastic_student, []).append(row)
    return [
        [row for row in ladder if row.cell.steps == min(each.cell.steps for each in ladder)]
        for ladder in ladders.values()
    ]


def _name(cell: SampleSpec) -> str:
    noisy = "stochastic " if cell.is_stochastic_student else ""
    return f"{noisy}{cell.steps}-step student"


def _controls(verdicts: Sequence[Verdict]) -> tuple[str, ...]:
    controls = [verdict for verdict in verdicts if verdict.judged != "student"]
    if not controls:
        return ()
    caught = sum(verdict.answer == "no" for verdict in controls)
    return (
        f"The checks reject {caught} of {format_count(len(controls), 'negative control')} "
        "(samples known to be bad).",
    )


def _bounds(report: AnyReport, students: Sequence[Verdict]) -> str:
    by_bounds: dict[str, list[float]] = {}
    for w in dict.fromkeys(verdict.w for verdict in students):
        checks = (check for verdict in students if verdict.w == w for check in verdict.checks)
        bounds = {
            check.name: _bound(check)
            for check in checks
            if check.is_bounded and check.name != EFFECTIVE_W
        }
        text = ", ".join(f"{name} {bound}" for name, bound in bounds.items())
        by_bounds.setdefault(text, []).append(w)
    sentences = [f"Bounds: {text}." for text in by_bounds]
    if len(by_bounds) > 1:
        sentences = [
            f"Bounds at w = {join_numbers(weights)}: {text}." for text, weights in by_bounds.items()
        ]
    names = {check.name for verdict in students for check in verdict.checks if check.is_bounded}
    if EFFECTIVE_W in names:
        sentences.append(
            f"The effective w (of the teacher's samples that match best) is within "
            f"{EFFECTIVE_W_MARGIN:.0%} of w, at w > 0."
        )
    if "distance" in names:
        extractor = report.panels[0].extractor if isinstance(report, AgreementReport) else ""
        features = f" in the features of {extractor}" if extractor else ""
        sentences.append(
            f"Distance, recall, score, accuracy, prompt and copies are relative to the teacher's"
            f"{features}; the distance is 1 + the difference / the teacher's without the bias of "
            "the number of samples."
        )
    sentences.append(
        "Parentheses: 95 % intervals, of pairs of samples where relative. A check passes if the "
        "whole interval is within the bounds and fails if it is outside; otherwise the samples "
        "cannot tell."
    )
    checked = {(verdict.title, verdict.w) for verdict in students}
    noisy = [r.cell for r in report.rows if r.cell.role == "student" and r.cell.adds_noise]
    rms = [check for each in students for check in each.checks if check.name == "RMS"]
    has_unbounded = any(not check.is_bounded for check in rms)
    if has_unbounded or any((cell.title, cell.w) not in checked for cell in noisy):
        sentences.append(f"{UNPAIRED_RMS_NOTE}.")
    return " ".join(sentences)


def _real_images(report: AnyReport) -> tuple[str, ...]:
    """Explain, for data without classes, the source of metrics against real images."""
    if isinstance(report, Report):
        return ()
    names = [p.extractor for p in report.panels if any(r.scores.distance_to_real for r in p.rows)]
    if names:
        features = f"distances to real images are in the features of {', '.join(names)}"
        return (f"The data have no classes; {features}.",)
    return ("The data have no classes, so there are no metrics against real images.",)


def _notes(report: AnyReport) -> tuple[str, ...]:
    """Describe the measurement settings."""
    protocol = report.protocol
    notes = [
        f"{protocol.num_samples} samples per cell, all from the same noise (seed {protocol.seed}). "
        "Intervals, bars and bands are 95 % intervals over the samples, within classes, with a "
        "fixed reference.",
        f"Reference: the teacher with DDIM in {protocol.reference_steps} steps. Its samples from "
        f"other noise (seed {protocol.noise_floor_seed}) give the level of unrelated samples.",
        f"{protocol.w_convention}. Evaluations are network evaluations per sample; a guided "
        "teacher needs two per step, one at w = 0.",
    ]
    if isinstance(report, Report):
        own = report.protocol
        notes += [
            f"Fréchet distances to {own.num_heldout} held-out real images, in the {own.features}; "
            "comparable within this report only.",
            f"Classifier: {own.classifier_parameters:,} parameters, held-out accuracy "
            f"{own.classifier_heldout_accuracy:.1%}, sha256 {own.classifier_sha256[:16]}.",
            f"Precision and recall use {own.neighbours} nearest neighbours in these features.",
            "The teacher's own distance to the teacher is the noise floor: its distance to itself "
            "from other noise.",
            "Accuracy and score are high for class means too: read them together with recall.",
            "The worst class is the class with the lowest accuracy. The minimum over many classes "
            "is biased low, and its interval does not correct for this.",
        ]
        notes += [f"Left out: {reason}." for reason in report.skipped]
    notes += [
        f"Metrics in the features of {panel.extractor} have separate charts; sha256 of its "
        f"weights: {(panel.metrics[0].extractor_sha256 or 'none')[:16]}."
        for panel in report.panels
        if panel.metrics
    ]
    return tuple(notes)


def join_numbers(values: Sequence[float | int], form: str = "g") -> str:
    """Join numbers for a sentence: "1, 3 and 7"."""
    return format_list([format(value, form) for value in values])
