"""Text summary of the verdicts on students, and of the distance to their teacher."""

from collections.abc import Sequence
from typing import TypeVar

from pipeline.evaluation.documents import Report, Row, SampleSpec
from pipeline.evaluation.figures.curves import ReportRow
from pipeline.evaluation.reports.agreement import (
    UNPAIRED_AGREEMENT_NOTE,
    AgreementReport,
    AgreementRow,
)
from pipeline.evaluation.tables import Value, format_estimate, value_of
from pipeline.evaluation.verdicts.checks import UNPAIRED_RMS_NOTE, Check, Verdict, void_reason
from pipeline.page.quality_curves import main_number
from pipeline.page.view_model import StudentVerdict, VerdictTable
from pipeline.wording import format_count, format_list

AnyReport = Report | AgreementReport
R = TypeVar("R", Row, AgreementRow)

_MEASURED: dict[str, tuple[str, str | None]] = {
    "distance": ("distance_to_real", None),
    "score": ("inception_score", None),
    "recall": ("recall", None),
    "accuracy": ("class_accuracy", None),
    "not copied": ("nearest_training", None),
    "prompt": ("prompt_accuracy", "all"),
    "RMS": ("rms_to_teacher", None),
}
"""Metric of each check, and part of the prompt."""

_NOT_CHECKED = StudentVerdict(None, ("no verdict",))


def summarise_verdicts(report: AnyReport) -> VerdictTable:
    """Summarise the verdicts of a report."""
    students = [verdict for verdict in report.verdicts if verdict.judged == "student"]
    if not students:
        return _unjudged(report)
    weights = tuple(dict.fromkeys(row.cell.w for row in report.rows))
    void = void_reason(report.verdicts)
    found = {
        (verdict.title, verdict.w): _cell(report, verdict, is_void=bool(void))
        for verdict in students
    }
    titles = dict.fromkeys(row.cell.title for row in report.rows if row.cell.role == "student")
    rows = tuple(
        (title, tuple(found.get((title, w), _NOT_CHECKED) for w in weights)) for title in titles
    )
    first = void or _headline(students)
    return VerdictTable(
        sentences=(first, *_costs(report), *_controls(report.verdicts), *_real_images_note(report)),
        weights=weights,
        rows=rows,
        bounds=_bounds(report, students),
    )


def passing_students(report: AnyReport) -> list[SampleSpec]:
    """Return the sets of students that pass every check; empty if the verdicts are void."""
    passed = {(v.title, v.w) for v in report.verdicts if v.judged == "student" and v.passed}
    cells = (row.cell for row in report.rows if row.cell.role == "student")
    return [] if void_reason(report.verdicts) else [c for c in cells if (c.title, c.w) in passed]


def _cell(report: AnyReport, verdict: Verdict, *, is_void: bool) -> StudentVerdict:
    failed = [check for check in verdict.checks if not check.passed]
    lines = [f"{_value(report, verdict, check)}, required {_bound(check)}" for check in failed]
    if not failed:
        lines = ["all checks pass", _value(report, verdict, verdict.checks[0])]
    unbounded = [f"{check.name} is not checked" for check in verdict.checks if not check.is_bounded]
    return StudentVerdict(None if is_void else verdict.passed, (*lines, *unbounded))


def _value(report: AnyReport, verdict: Verdict, check: Check) -> str:
    """Format a check's value with the interval of its metric, scaled to the same ratio."""
    if check.name not in _MEASURED:
        return f"{check.name} {check.value:.3g}"
    measured = _measured(report, verdict, *_MEASURED[check.name])
    return f"{check.name} {format_estimate(_scaled(check.value, measured), '.3g')}"


def _measured(report: AnyReport, verdict: Verdict, key: str, part: str | None) -> Value | None:
    """Find the metric of a student's check, in the report or in its first extractor."""
    sources: list[Sequence[ReportRow]] = [report.rows, *(panel.rows for panel in report.panels[:1])]
    for rows in sources if isinstance(report, AgreementReport) else sources[:1]:
        for row in rows:
            if (row.cell.role, row.cell.title, row.cell.w) == ("student", verdict.title, verdict.w):
                found = value_of(row.scores.model_dump(), key, part)
                if found is not None:
                    return found
    return None


def _scaled(value: float, measured: Value | None) -> Value:
    """Return a ratio with the interval of its numerator; the denominator is fixed."""
    if measured is None or measured[1] is None or measured[0] == 0:
        return value, None
    factor = value / measured[0]
    low, high = measured[1]
    return value, (factor * low, factor * high)


def _bound(check: Check) -> str:
    if check.least is not None and check.most is not None:
        return f"{check.least:g} to {check.most:g}"
    return f"at most {check.most:g}" if check.most is not None else f"at least {check.least:g}"


def _headline(students: Sequence[Verdict]) -> str:
    good: dict[str, list[float]] = {}
    for verdict in students:
        if verdict.passed:
            good.setdefault(verdict.title, []).append(verdict.w)
    if not good:
        return "No student passes every check at any guidance weight."
    students_text = "; ".join(
        f"{title} (w = {join_numbers(weights)})" for title, weights in good.items()
    )
    return f"Every check passes for: {students_text}."


def _costs(report: AnyReport) -> tuple[str, ...]:
    """Compare each ladder's student of the fewest steps with the teacher."""
    if isinstance(report, AgreementReport):
        return tuple(_agreement(report, last) for last in _last_of_each_ladder(report.rows))
    return tuple(_cost(report, last) for last in _last_of_each_ladder(report.rows))


def _cost(report: Report, last: Sequence[Row]) -> str:
    """Compare evaluations and distance to real images."""
    ratios = []
    for row in last:
        found = row.scores.distance_to_real, row.scores.distance_to_real_interval
        ratio = found[0] / _teacher(report, row).scores.distance_to_real
        ratios.append(format_estimate(_scaled(ratio, found), ".2f"))
    cost = format_count(last[0].evaluations, "network evaluation")
    teacher_cost = _teacher(report, last[-1]).evaluations
    return (
        f"The {_name(last[0].cell)} needs {cost} per sample, the teacher {teacher_cost}. Its "
        f"distance to real images is {format_list(ratios)} times the teacher's at w = "
        f"{join_numbers([r.cell.w for r in last])}."
    )


def _agreement(report: AgreementReport, last: Sequence[AgreementRow]) -> str:
    """Compare samples from the same noise."""
    rms = [
        format_estimate((row.scores.rms_to_teacher, row.scores.rms_to_teacher_interval), ".2f")
        for row in last
    ]
    unrelated = [r.scores.rms_to_teacher for r in report.rows if r.cell.role == "noise_floor"]
    return (
        f"The {_name(last[0].cell)} differs from the teacher's sample of the same noise by RMS "
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


def _teacher(report: Report, row: Row) -> Row:
    return next(each for each in report.at(row.cell.w) if each.cell.role == "teacher")


def _controls(verdicts: Sequence[Verdict]) -> tuple[str, ...]:
    controls = [verdict for verdict in verdicts if verdict.judged != "student"]
    if not controls:
        return ()
    caught = sum(not verdict.passed for verdict in controls)
    return (
        f"The checks reject {caught} of {format_count(len(controls), 'negative control')} "
        "(samples known to be bad).",
    )


def _bounds(report: AnyReport, students: Sequence[Verdict]) -> str:
    checks = [check for verdict in students for check in verdict.checks]
    by_name = {check.name: _bound(check) for check in checks if check.is_bounded}
    bounds = [f"{name} {bound}" for name, bound in by_name.items() if name != "w consistency"]
    if "w consistency" in by_name:
        bounds.append("samples follow w (nearest to the teacher at the same w)")
    sentences = [f"Bounds: {', '.join(bounds)}."]
    if "distance" in by_name:
        extractor = report.panels[0].extractor if isinstance(report, AgreementReport) else ""
        features = f" in the features of {extractor}" if extractor else ""
        sentences.append(
            f"All but RMS are ratios to the teacher's{features}; some bounds are wider at w = 0, "
            "where the teacher's distances are small."
        )
    sentences.append(
        "Parentheses: 95 % intervals of the student's numbers, with the teacher's fixed."
    )
    checked = {(verdict.title, verdict.w) for verdict in students}
    noisy = [r.cell for r in report.rows if r.cell.role == "student" and r.cell.adds_noise]
    has_unbounded = any(not check.is_bounded for check in checks)
    if has_unbounded or any((cell.title, cell.w) not in checked for cell in noisy):
        sentences.append(f"{UNPAIRED_RMS_NOTE}.")
    return " ".join(sentences)


def _real_images_note(report: AnyReport) -> tuple[str, ...]:
    """Explain, for data without classes, the source of metrics against real images."""
    if isinstance(report, Report):
        return ()
    names = [p.extractor for p in report.panels if any(r.scores.distance_to_real for r in p.rows)]
    if names:
        features = f"distances to real images are in the features of {', '.join(names)}"
        return (f"The data have no classes; {features}.",)
    return ("The data have no classes, so there are no metrics against real images.",)


def _unjudged(report: AnyReport) -> VerdictTable:
    """Summarise a report without verdicts: the main metric of each student."""
    main = main_number(report)
    weights = tuple(dict.fromkeys(row.cell.w for row in report.rows))
    students = [row for row in report.rows if row.cell.role == "student"]
    name = "distance" if isinstance(report, Report) else "RMS"
    found = {(row.cell.title, row.cell.w): main.of(row) for row in students}
    rows = tuple(
        (title, tuple(_number(name, found.get((title, w))) for w in weights))
        for title in dict.fromkeys(row.cell.title for row in students)
    )
    noisy = any(row.cell.adds_noise for row in students)
    bounds = "Distance to real images." if isinstance(report, Report) else "Pixels in [-1, 1]."
    unpaired = (
        f" {UNPAIRED_AGREEMENT_NOTE}" if noisy and isinstance(report, AgreementReport) else ""
    )
    return VerdictTable(
        (*_costs(report), *_real_images_note(report)),
        weights,
        rows,
        f"{bounds} 95 % intervals in parentheses.{unpaired}",
    )


def _number(name: str, value: Value | None) -> StudentVerdict:
    return StudentVerdict(None, () if value is None else (f"{name} {format_estimate(value)}",))


def join_numbers(values: Sequence[float | int], form: str = "g") -> str:
    """Join numbers for a sentence: "1, 3 and 7"."""
    return format_list([format(value, form) for value in values])
