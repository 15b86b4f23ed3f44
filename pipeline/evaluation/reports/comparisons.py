"""Comparisons of a report's networks as tables: checks, cost, guidance sweep, and short forms."""

from collections.abc import Sequence
from typing import Any

from pipeline.evaluation.documents import AnyReport, Report, Row, teacher_title
from pipeline.evaluation.tables import Table, format_estimate, metric_of, worst_class
from pipeline.evaluation.verdicts.checks import Verdict, void_reason

_BRIEF = {
    "to real": "distance_to_real",
    "relative": "relative_distance",
    "w, effective": "effective_w",
    "accuracy": "class_accuracy",
    "RMS": "rms_to_teacher",
}

_RELATIVE = ("relative_distance", "effective_w")
"""Numbers that compare with the teacher by themselves."""

_CARD = {
    "distance_to_real": "Frechet distance to held-out images, not FID",
    "relative_distance": "distance relative to the teacher's",
    "effective_w": "effective guidance weight",
    "rms_to_teacher": "RMS to the teacher's sample from the same noise",
    "class_accuracy": "class accuracy",
}


def check_table(verdicts: Sequence[Verdict]) -> Table | None:
    """Build a table of all checks, students first; None without students."""
    students = [verdict for verdict in verdicts if verdict.judged == "student"]
    if not students:
        return None
    names = list(dict.fromkeys(check.name for each in verdicts for check in each.checks))
    controls = [verdict for verdict in verdicts if verdict.judged != "student"]
    has_floor = any(each.floor_factor is not None for each in students)
    is_void = bool(void_reason(verdicts))
    rows = []
    for each in (*students, *controls):
        checks = {check.name: check for check in each.checks}
        is_student = each.judged == "student"
        names_of = {"yes": "pass", "no": "fail", "cannot tell": "cannot tell"}
        result = "void" if is_void and is_student else names_of[each.answer]
        floor = "-" if each.floor_factor is None else f"{each.floor_factor:.2f}"
        cells = [checks[name].as_markdown if name in checks else "-" for name in names]
        title = each.title if is_student else f"*control: {each.title}*"
        rows.append((f"{each.w:g}", title, *cells, *([floor] if has_floor else []), result))
    floor_head = ["to teacher / noise floor"] if has_floor else []
    return Table(None, "", ("w", "samples", *names, *floor_head, "result"), tuple(rows))


def rows_by_sampler(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Group rows into students, and the teacher with each training-free sampler."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        if row.cell.role == "student":
            noisy = ", stochastic" if row.cell.is_stochastic_student else ""
            found.setdefault(f"distilled students{noisy}", []).append(row)
        elif row.cell.role in ("baseline", "teacher"):
            found.setdefault(teacher_title(row.cell.sampler), []).append(row)
    return found


def equal_evaluations(report: Report, w: float) -> Table:
    """Compare the lowest distances at equal network evaluations; the lowest of a row is bold."""
    by_family = rows_by_sampler(report.at(w))
    lines = []
    for cost in sorted({row.evaluations for rows in by_family.values() for row in rows}):
        of_cost = [[row for row in rows if row.evaluations == cost] for rows in by_family.values()]
        nearest = [min(rows, key=_distance, default=None) for rows in of_cost]
        least = min(_distance(row) for row in nearest if row)
        cells = ["" if row is None else _to_real(row, ".2f") for row in nearest]
        marked = [
            f"**{cell}**" if row and _distance(row) == least else cell
            for row, cell in zip(nearest, cells, strict=True)
        ]
        lines.append((str(cost), *marked))
    return Table(w, "", ("evaluations", *by_family), tuple(lines))


def trade_off(report: Report) -> Table:
    """Show distance, score and recall of each network by guidance weight."""
    lines: dict[str, dict[float, Row]] = {}
    for row in report.rows:
        if row.cell.role in ("teacher", "student"):
            lines.setdefault(row.cell.title, {})[row.cell.w] = row
    rows = tuple(
        (
            title,
            " or ".join(map(str, sorted({row.evaluations for row in by_w.values()}))),
            *(_traded(by_w[w]) if w in by_w else "" for w in report.weights),
        )
        for title, by_w in lines.items()
    )
    heads = ("network", "evaluations", *(f"w = {w:g}" for w in report.weights))
    return Table(None, "Guidance trade-off: distance to real images / score / recall", heads, rows)


def _traded(row: Row) -> str:
    found = [metric_of(row, key) for key in ("distance_to_real", "inception_score", "recall")]
    return " / ".join(format_estimate(value, ".2f") for value in found if value)


def best_baseline(report: Report, w: float, evaluations: int) -> Row | None:
    """Return the teacher's row nearest to real images within a budget of evaluations."""
    affordable = [
        row
        for row in report.at(w)
        if row.cell.role in ("baseline", "teacher") and row.evaluations <= evaluations
    ]
    return min(affordable, key=_distance, default=None)


def equal_cost(report: Report) -> Table:
    """Compare each student with training-free samplers of no more network evaluations."""
    heads = (
        *("w", "evaluations", "student", "teacher, training-free", "student, relative"),
        *("training-free, relative", "to teacher / noise floor"),
    )
    rows = []
    for row in (row for row in report.rows if row.cell.role == "student"):
        teacher, baseline = (
            teacher_of(report, row),
            best_baseline(report, row.cell.w, row.evaluations),
        )
        noisy = ", stochastic" if row.cell.is_stochastic_student else ""
        rows.append(
            (
                f"{row.cell.w:g}",
                f"{row.evaluations}{noisy}",
                _to_real(row),
                f"{_to_real(baseline)}, {baseline.cell.title}" if baseline else "none at this cost",
                _relative(row),
                _relative(baseline) if baseline else "-",
                _ratio(row.scores.distance_to_teacher, teacher.scores.distance_to_teacher),
            )
        )
    return Table(None, "", heads, tuple(rows))


def _distance(row: Row) -> float:
    return row.scores.distance_to_real


def _to_real(row: Row, form: str = ".3f") -> str:
    return format_estimate((_distance(row), row.scores.distance_to_real_interval), form)


def _relative(row: Row) -> str:
    found = metric_of(row, "relative_distance")
    return "-" if found is None else format_estimate(found, ".2f")


def _ratio(value: float | None, other: float | None) -> str:
    return f"{value / other:.2f}" if value is not None and other else "-"


def teacher_of(report: Report, row: Row) -> Row:
    """Return the teacher's row at the guidance weight of a row."""
    return next(each for each in report.at(row.cell.w) if each.cell.role == "teacher")


def brief_table(report: AnyReport) -> Table:
    """Build a narrow table of the main numbers at one guidance weight, for the terminal."""
    # the second largest weight: guided, but not the end of the students' range
    w = report.weights[-2] if len(report.weights) > 1 else report.weights[-1]
    rows = []
    for row in (row for row in report.rows if row.cell.w == w):
        found = [metric_of(row, key) for key in _BRIEF.values()]
        other = ", other noise" if row.cell.role == "noise_floor" else ""
        numbers = ["" if each is None else f"{each[0]:.3g}" for each in found]
        rows.append((f"{row.cell.title}{other}", str(row.evaluations), *numbers))
    return Table(w, f"Samples at w = {w:g}", ("", "evals", *_BRIEF), tuple(rows))


def card_facts(report: AnyReport, round_index: int) -> dict[str, Any]:
    """Return the scores of a round's student for its model card, each with its teacher's."""
    facts: dict[str, Any] = {}
    for row in report.rows:
        if row.cell.role == "student" and row.cell.round == round_index:
            teachers = [
                r for r in report.rows if (r.cell.role, r.cell.w) == ("teacher", row.cell.w)
            ]
            teacher = teachers[0].scores.model_dump() if teachers else {}
            facts |= _facts_at(row.cell.w, row.scores.model_dump(), teacher)
    for verdict in report.verdicts if not void_reason(report.verdicts) else ():
        cells = {(r.cell.title, r.cell.w) for r in report.rows if r.cell.round == round_index}
        if verdict.judged == "student" and (verdict.title, verdict.w) in cells:
            facts[f"w = {verdict.w:g}: passes every check"] = verdict.answer
    return facts | ({"samples per cell": report.protocol.num_samples} if facts else {})


def _facts_at(w: float, scores: dict[str, Any], teacher: dict[str, Any]) -> dict[str, str]:
    found = {
        f"w = {w:g}: {words}": _with_teacher(scores[key], teacher.get(key))
        if key not in _RELATIVE
        else format_estimate((scores[key], scores.get(f"{key}_interval")), ".3g")
        for key, words in _CARD.items()
        if scores.get(key) is not None
    }
    if worst := worst_class(scores):
        share = scores["accuracy_by_class"][worst]
        of_teacher = (teacher.get("accuracy_by_class") or {}).get(worst)
        found[f"w = {w:g}: lowest class accuracy"] = f"{worst}, {_with_teacher(share, of_teacher)}"
    for part, share in (scores.get("prompt_accuracy") or {}).items():
        of_teacher = (teacher.get("prompt_accuracy") or {}).get(part)
        found[f"w = {w:g}: prompt accuracy, {part}"] = _with_teacher(share, of_teacher)
    return found


def _with_teacher(value: float, teacher: float | None) -> str:
    return f"{value:.3g}" if teacher in (None, 0.0) else f"{value:.3g} (teacher {teacher:.3g})"
