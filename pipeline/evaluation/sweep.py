"""Quality against cost and against w, as tables: one student at all w, its teacher beside it."""

from collections.abc import Sequence

from pipeline.evaluation.protocol import SAMPLER_NAMES, Report, Row
from pipeline.evaluation.tables import said, value_of

_STUDENTS = "distilled students"
_BEST, _REST = "**", ""


def sweep_tables(report: Report) -> str:
    """Distance at equal network evaluations by w; then distance and score of each network at all w.

    As the tables of Meng et al. 2022, arXiv:2210.03142, compare them.
    """
    parts = [
        "Distance to real images at equal network evaluations: the students, and the teacher "
        "under each training-free sampler. The least of a line is bold.\n"
    ]
    parts += [f"w = {w:g}:\n\n{_equal_evaluations(report, w)}" for w in report.weights]
    if len(report.weights) > 1:
        parts.append(
            "What guidance trades, one student at all w: distance to real images / score / "
            f"recall, in brackets their 95 % intervals.\n\n{_trade(report)}"
        )
    return "\n".join(parts)


def families(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows by what draws them: students, and the teacher under each training-free sampler."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        if row.cell.role == "student":
            noisy = ", stochastic" if row.cell.is_stochastic_student else ""
            found.setdefault(f"{_STUDENTS}{noisy}", []).append(row)
        elif row.cell.role in ("baseline", "teacher"):
            found.setdefault(f"teacher, {SAMPLER_NAMES[row.cell.sampler]}", []).append(row)
    return found


def _equal_evaluations(report: Report, w: float) -> str:
    by_family = families(report.at(w))
    costs = sorted({row.evaluations for rows in by_family.values() for row in rows})
    text = f"| evaluations | {' | '.join(by_family)} |\n|--:{'|:-:' * len(by_family)}|\n"
    for cost in costs:
        cells = [
            min(
                (row for row in rows if row.evaluations == cost),
                key=lambda row: row.scores.distance_to_real,
                default=None,
            )
            for rows in by_family.values()
        ]
        least = min(row.scores.distance_to_real for row in cells if row)
        text += f"| {cost} | {' | '.join(_marked(row, least) for row in cells)} |\n"
    return text


def _marked(row: Row | None, least: float) -> str:
    if row is None:
        return ""
    mark = _BEST if row.scores.distance_to_real == least else _REST
    found = said((row.scores.distance_to_real, row.scores.distance_to_real_interval), ".2f")
    return f"{mark}{found}{mark}"


def _trade(report: Report) -> str:
    lines: dict[str, dict[float, Row]] = {}
    for row in report.rows:
        if row.cell.role in ("teacher", "student"):
            lines.setdefault(row.cell.title, {})[row.cell.w] = row
    heads = " | ".join(f"w = {w:g}" for w in report.weights)
    text = f"| network | evaluations | {heads} |\n|---|--:{'|:-:' * len(report.weights)}|\n"
    for title, by_w in lines.items():
        cells = " | ".join(_traded(by_w.get(w)) for w in report.weights)
        costs = sorted({row.evaluations for row in by_w.values()})
        text += f"| {title} | {' or '.join(map(str, costs))} | {cells} |\n"
    return text


def _traded(row: Row | None) -> str:
    if row is None:
        return ""
    scores = row.scores.model_dump()
    found = [value_of(scores, key) for key in ("distance_to_real", "inception_score", "recall")]
    return " / ".join(said(value, ".2f") for value in found if value)
