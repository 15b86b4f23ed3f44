"""The answer in words: which student is good enough, at which guidance weight, and what is not."""

from collections.abc import Sequence
from typing import TypeVar

from pipeline.evaluation.documents import Cell, Report, Row
from pipeline.evaluation.figures.curves import Point
from pipeline.evaluation.reports.agreement import UNPAIRED, AgreementReport, AgreementRow
from pipeline.evaluation.tables import Value, said, value_of
from pipeline.evaluation.verdicts.checks import NOT_PAIRED, Check, Verdict, why_void
from pipeline.page.quality_curves import main_number
from pipeline.page.view_model import Finding, Judgement
from pipeline.wording import counted, joined

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
"""By check, the number that it is about, and which part of the prompt."""

_NOT_JUDGED = Finding(None, ("not judged",))


def judge(report: AnyReport) -> Judgement:
    """What the report says of its students."""
    students = [verdict for verdict in report.verdicts if verdict.judged == "student"]
    if not students:
        return _unjudged(report)
    weights = tuple(dict.fromkeys(row.cell.w for row in report.rows))
    void = why_void(report.verdicts)
    found = {
        (verdict.title, verdict.w): _cell(report, verdict, is_void=bool(void))
        for verdict in students
    }
    titles = dict.fromkeys(row.cell.title for row in report.rows if row.cell.role == "student")
    rows = tuple(
        (title, tuple(found.get((title, w), _NOT_JUDGED) for w in weights)) for title in titles
    )
    first = void or _headline(students)
    return Judgement(
        sentences=(first, *_costs(report), *_controls(report.verdicts), *_silent(report)),
        weights=weights,
        rows=rows,
        bounds=_bounds(report, students),
    )


def good_students(report: AnyReport) -> list[Cell]:
    """The students that pass every check, where; nobody if nothing is judged."""
    passed = {(v.title, v.w) for v in report.verdicts if v.judged == "student" and v.passed}
    cells = (row.cell for row in report.rows if row.cell.role == "student")
    return [] if why_void(report.verdicts) else [c for c in cells if (c.title, c.w) in passed]


def _cell(report: AnyReport, verdict: Verdict, *, is_void: bool) -> Finding:
    missed = [check for check in verdict.checks if not check.passed]
    told = [f"{_told(report, verdict, check)}, asked {_asked(check)}" for check in missed]
    if not missed:
        told = ["every check holds", _told(report, verdict, verdict.checks[0])]
    unasked = [f"{check.name} is not asked" for check in verdict.checks if not check.is_asked]
    return Finding(None if is_void else verdict.passed, (*told, *unasked))


def _told(report: AnyReport, verdict: Verdict, check: Check) -> str:
    """A check's value, in brackets the interval of what was measured, in the same proportion."""
    if check.name not in _MEASURED:
        return f"{check.name} {check.value:.3g}"
    measured = _measured(report, verdict, *_MEASURED[check.name])
    return f"{check.name} {said(_as(check.value, measured), '.3g')}"


def _measured(report: AnyReport, verdict: Verdict, key: str, part: str | None) -> Value | None:
    """What a student's check is about: of the report, or of the extractor that it asks."""
    read: list[Sequence[Point]] = [report.rows, *(panel.rows for panel in report.panels[:1])]
    for rows in read if isinstance(report, AgreementReport) else read[:1]:
        for row in rows:
            if (row.cell.role, row.cell.title, row.cell.w) == ("student", verdict.title, verdict.w):
                found = value_of(row.scores.model_dump(), key, part)
                if found is not None:
                    return found
    return None


def _as(value: float, measured: Value | None) -> Value:
    """A ratio with the interval of its numerator; what it is a ratio to is held fixed."""
    if measured is None or measured[1] is None or measured[0] == 0:
        return value, None
    factor = value / measured[0]
    low, high = measured[1]
    return value, (factor * low, factor * high)


def _asked(check: Check) -> str:
    if check.least is not None and check.most is not None:
        return f"{check.least:g} to {check.most:g}"
    return f"at most {check.most:g}" if check.most is not None else f"at least {check.least:g}"


def _headline(students: Sequence[Verdict]) -> str:
    good: dict[str, list[float]] = {}
    for verdict in students:
        if verdict.passed:
            good.setdefault(verdict.title, []).append(verdict.w)
    if not good:
        return "No student is as good as its teacher by every check at any guidance weight."
    told = "; ".join(f"the {title} (w = {listed(weights)})" for title, weights in good.items())
    return f"As good as the teacher by every check: {told}."


def _costs(report: AnyReport) -> tuple[str, ...]:
    """Each ladder's student of the fewest steps against the teacher."""
    if isinstance(report, AgreementReport):
        return tuple(_likeness(report, last) for last in _last_of_each_ladder(report.rows))
    return tuple(_cost(report, last) for last in _last_of_each_ladder(report.rows))


def _cost(report: Report, last: Sequence[Row]) -> str:
    """By evaluations and distance."""
    ratios = []
    for row in last:
        found = row.scores.distance_to_real, row.scores.distance_to_real_interval
        ratio = found[0] / _teacher(report, row).scores.distance_to_real
        ratios.append(said(_as(ratio, found), ".2f"))
    against = _teacher(report, last[-1]).evaluations
    asked = "once" if last[0].evaluations == 1 else f"{last[0].evaluations} times"
    return (
        f"The {_who(last[0].cell)} asks its network {asked} a "
        f"sample where the teacher asks {against} times; its distance to real images is "
        f"{joined(ratios)} times the teacher's at w = {listed([r.cell.w for r in last])}."
    )


def _likeness(report: AgreementReport, last: Sequence[AgreementRow]) -> str:
    """By the same noise."""
    rms = [
        said((row.scores.rms_to_teacher, row.scores.rms_to_teacher_interval), ".2f") for row in last
    ]
    unrelated = [r.scores.rms_to_teacher for r in report.rows if r.cell.role == "yardstick"]
    return (
        f"The {_who(last[0].cell)} differs from its teacher's sample of the same noise by RMS "
        f"{joined(rms)} at w = {listed([row.cell.w for row in last])}; "
        f"unrelated samples of the teacher by {listed(unrelated, '.2f')}."
    )


def _last_of_each_ladder(rows: Sequence[R]) -> list[list[R]]:
    """The rows of the student of the fewest steps, by w; of each ladder if there are two."""
    students = [row for row in rows if row.cell.role == "student"]
    # the stage-1 student is on no ladder, and speaks where nobody else does
    ladders: dict[bool, list[R]] = {}
    for row in [row for row in students if row.cell.round != 0] or students:
        ladders.setdefault(row.cell.is_stochastic_student, []).append(row)
    return [
        [row for row in ladder if row.cell.steps == min(each.cell.steps for each in ladder)]
        for ladder in ladders.values()
    ]


def _who(cell: Cell) -> str:
    noisy = "stochastic " if cell.is_stochastic_student else ""
    return f"{noisy}student of {counted(cell.steps, 'step')}"


def _teacher(report: Report, row: Row) -> Row:
    return next(each for each in report.at(row.cell.w) if each.cell.role == "teacher")


def _controls(verdicts: Sequence[Verdict]) -> tuple[str, ...]:
    controls = [verdict for verdict in verdicts if verdict.judged != "student"]
    if not controls:
        return ()
    caught = sum(not verdict.passed for verdict in controls)
    return (
        f"The checks were put to {counted(len(controls), 'set')} of samples that are bad on "
        f"purpose as well, and caught {caught} of them.",
    )


def _bounds(report: AnyReport, students: Sequence[Verdict]) -> str:
    checks = [check for verdict in students for check in verdict.checks]
    asked = {check.name: _asked(check) for check in checks if check.is_asked}
    told = [f"{name} {bound}" for name, bound in asked.items() if name != "follows w"]
    told += ["and that samples follow w"] if "follows w" in asked else []
    sentences = [f"Asked: {', '.join(told)}."]
    if "distance" in asked:
        read = report.panels[0].extractor if isinstance(report, AgreementReport) else ""
        where = f" in the features of {read}" if read else ""
        sentences.append(
            f"All but RMS are ratios to the teacher's own{where}; at w = 0 the bounds are wider "
            "where errors weigh more."
        )
    sentences.append(
        "In brackets, the 95 % intervals of the student's numbers; the teacher's are held fixed."
    )
    judged = {(verdict.title, verdict.w) for verdict in students}
    noisy = [r.cell for r in report.rows if r.cell.role == "student" and r.cell.adds_noise]
    unasked = any(not check.is_asked for check in checks)
    if unasked or any((cell.title, cell.w) not in judged for cell in noisy):
        sentences.append(f"{NOT_PAIRED}.")
    return " ".join(sentences)


def _silent(report: AnyReport) -> tuple[str, ...]:
    """What nothing is said of, in a sentence."""
    if isinstance(report, Report):
        return ()
    seen = [p.extractor for p in report.panels if any(r.scores.distance_to_real for r in p.rows)]
    if seen:
        told = f"distances to real images are those in the features of {', '.join(seen)}"
        return (f"The data have no classes: {told}.",)
    return ("The data have no classes, so nothing is said of real images.",)


def _unjudged(report: AnyReport) -> Judgement:
    """Of a report that judges no student: its main number, student by student."""
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
    bounds = "To real images." if isinstance(report, Report) else "Pixels in [-1, 1]."
    unpaired = f" {UNPAIRED}" if noisy and isinstance(report, AgreementReport) else ""
    return Judgement(
        (*_costs(report), *_silent(report)),
        weights,
        rows,
        f"{bounds} In brackets, 95 % intervals.{unpaired}",
    )


def _number(name: str, value: Value | None) -> Finding:
    return Finding(None, () if value is None else (f"{name} {said(value)}",))


def listed(values: Sequence[float | int], form: str = "g") -> str:
    """Numbers as a sentence has them: "1, 3 and 7"."""
    return joined([format(value, form) for value in values])
