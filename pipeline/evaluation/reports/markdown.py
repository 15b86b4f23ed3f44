"""Quality against cost and against w, as tables: one student at all w, its teacher beside it."""

import json
from collections.abc import Sequence
from pathlib import Path

from pipeline.evaluation.documents import SAMPLER_NAMES, Report, Role, Row
from pipeline.evaluation.extractor_metrics import panel_section
from pipeline.evaluation.tables import Line, class_table, protocol_table, said, table, value_of
from pipeline.evaluation.verdicts.checks import NOT_PAIRED, Check, Verdict, why_void

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


_TABLES = {
    "Against real images": (
        *("distance_to_real", "kid_to_real", "precision", "recall", "density", "coverage"),
        "nearest_training",
    ),
    "As asked": ("class_accuracy", "accuracy_by_class", "inception_score", "prompt_accuracy"),
    "Against the teacher": (
        *("distance_to_teacher", "rms_to_teacher", "psnr_to_teacher", "ssim_to_teacher"),
    ),
}

_LEGEND = """\
- In brackets, the 95 % interval by bootstrap over the samples, within their classes; what they are
  compared with is held fixed. {num_samples} samples a row, seed {seed}, classes balanced.
- Distances are taken in {features}.
  It gets {classifier_heldout_accuracy:.1%} of the held-out images right, has
  {classifier_parameters:,} parameters and sha256 `{classifier_sha256}`.
- **to teacher** in the teacher's own row is the floor: its distance to itself from other noise
  (seed {yardstick_seed} instead of {seed}).
- **accuracy** and **score** are fooled by class means: read them with the recall.
- **worst class** is the one of least accuracy. One of many is low by chance too, which its interval
  does not allow for; and what is always or never right has an interval without width.
- **evaluations**: of the network, for one sample. A guided teacher needs two a step, one at w = 0.
- w is the guidance weight of `(1 + w) conditional - w unconditional`; guidance_scale is 1 + w.

Numbers of different protocols do not compare. These depend on the classifier and on the number of
samples, so they compare within this report only.
"""


def write_report(report: Report, folder: Path) -> None:
    """Write `report.json` and `report.md` into `folder`."""
    text = json.dumps(report.model_dump(mode="json"), indent=1, ensure_ascii=False)
    (folder / "report.json").write_text(text + "\n", encoding="utf-8")
    (folder / "report.md").write_text(_markdown(report), encoding="utf-8")


def read_report(folder: Path) -> Report:
    """Read the `report.json` of a folder."""
    return Report.model_validate_json((folder / "report.json").read_text(encoding="utf-8"))


def _markdown(report: Report) -> str:
    parts = [f"# {report.run}: students against their teacher\n"]
    void = why_void(report.verdicts)
    parts += [f"**{void}**\n"] if void else []
    parts += [f"![{Path(name).stem}]({name})\n" for name in report.pictures]
    parts += ["## At equal cost\n", _equal_cost(report)]
    parts += ["## Faithful?\n", _fidelity(report)]
    parts += ["## The sweep\n", sweep_tables(report)]
    parts.append("## All numbers\n")
    for w in report.weights:
        lines = _lines(report, w)
        parts.append(f"### w = {w:g}\n")
        for title, keys in _TABLES.items():
            metrics = [metric for metric in report.metrics if metric.metric in keys]
            parts.append(f"{title}:\n\n{table(metrics, lines)}")
        by_class = class_table(_lines_of(report, w, ("teacher", "student")))
        parts += [f"Accuracy by class:\n\n{by_class}"] if by_class else []
    parts += ["## How each number was made\n", protocol_table(report.metrics)]
    parts.append(_LEGEND.format(**report.protocol.model_dump()))
    parts += [panel_section(panel) for panel in report.panels]
    if report.skipped:
        parts.append("Left out:\n\n" + "".join(f"- {reason}\n" for reason in report.skipped))
    return "\n".join(parts)


def _lines(report: Report, w: float) -> list[Line]:
    found = _lines_of(report, w, ("teacher", "student", "baseline"))
    return [*found, Line("*training images*", "-", report.real.model_dump())]


def _lines_of(report: Report, w: float, roles: Sequence[Role]) -> list[Line]:
    return [
        Line(row.cell.title, str(row.evaluations), row.scores.model_dump())
        for row in report.at(w)
        if row.cell.role in roles
    ]


def best_baseline(report: Report, w: float, evaluations: int) -> Row | None:
    """The training-free sampling of the teacher nearest to the real images within a budget."""
    affordable = [
        row
        for row in report.at(w)
        if row.cell.role in ("baseline", "teacher") and row.evaluations <= evaluations
    ]
    return min(affordable, key=lambda row: row.scores.distance_to_real, default=None)


def _equal_cost(report: Report) -> str:
    lines = [
        "Distance to real images of each student, against the best training-free sampling of the "
        "teacher with no more network evaluations, and against the teacher's reference. The last "
        "column is the distance to the teacher's own samples over the floor, the teacher's "
        "distance to itself from other noise. In brackets, 95 % intervals.\n\n"
        "| w | evaluations | student | teacher, training-free | student / teacher "
        "| student / reference | to teacher / floor |\n|--:|--:|--:|---|--:|--:|--:|\n"
    ]
    for w in report.weights:
        rows = report.at(w)
        reference = next(row for row in rows if row.cell.role == "teacher")
        for row in (row for row in rows if row.cell.role == "student"):
            lines.append(
                _equal_cost_line(row, reference, best_baseline(report, w, row.evaluations))
            )
    return "".join(lines)


def _equal_cost_line(student: Row, reference: Row, rival: Row | None) -> str:
    distance = student.scores.distance_to_real
    against = "none is this cheap | -"
    if rival is not None:
        found = rival.scores.distance_to_real
        against = f"{_to_real(rival)}, {rival.cell.title} | {_ratio(distance, found)}"
    whole = _ratio(distance, reference.scores.distance_to_real)
    floor = _ratio(student.scores.distance_to_teacher, reference.scores.distance_to_teacher)
    noisy = ", stochastic" if student.cell.is_stochastic_student else ""
    cells = (f"{student.cell.w:g}", f"{student.evaluations}{noisy}", _to_real(student), against)
    return "".join(f"| {cell} " for cell in (*cells, whole, floor)) + "|\n"


def _to_real(row: Row) -> str:
    return said((row.scores.distance_to_real, row.scores.distance_to_real_interval))


def _fidelity(report: Report) -> str:
    students = [verdict for verdict in report.verdicts if verdict.judged == "student"]
    controls = [verdict for verdict in report.verdicts if verdict.judged != "student"]
    if not students:
        return "No student was judged.\n"
    names = [check.name for check in students[0].checks]
    head = f"| w | samples | {' | '.join(names)} | to teacher / floor | |\n"
    rule = "|--:|---|" + "--:|" * (len(names) + 1) + "---|\n"
    void = why_void(report.verdicts)
    lines = [_verdict_line(verdict, "void" if void else "") for verdict in students]
    lines += [_verdict_line(verdict) for verdict in controls]
    passed = sum(verdict.passed for verdict in students)
    caught = sum(not verdict.passed for verdict in controls)
    counted = f"{passed} of {len(students)} students' rows pass every check;"
    told = (
        f"{void or counted} {caught} of "
        f"{len(controls)} controls, bad on purpose, are caught. All but RMS and w are ratios to "
        "the teacher's reference; what fails is bold.\n\n"
    )
    return told + head + rule + "".join(lines) + "\n" + _bounds(students)


def _verdict_line(verdict: Verdict, instead: str = "") -> str:
    """A line of the table; it ends in what is said instead of pass or fail, if there is that."""
    values = [check.in_a_table for check in verdict.checks]
    factor = "-" if verdict.floor_factor is None else f"{verdict.floor_factor:.2f}"
    end = instead or ("pass" if verdict.passed else "fail")
    title = verdict.title if verdict.judged == "student" else f"*control: {verdict.title}*"
    return f"| {' | '.join([f'{verdict.w:g}', title, *values, factor, end])} |\n"


def _bounds(students: Sequence[Verdict]) -> str:
    """The bounds in words, for each guidance weight once if they differ."""
    asked: dict[str, dict[str, str]] = {}
    for verdict in students:
        at_w = asked.setdefault(f"{verdict.w:g}", {})
        at_w |= {check.name: _bound(check) for check in verdict.checks if check.is_asked}
    shared: dict[str, list[str]] = {}
    for w, bounds in asked.items():
        words = ", ".join(f"{name} {told}" for name, told in bounds.items() if name != "follows w")
        shared.setdefault(words, []).append(w)
    lines = [f"- at w = {', '.join(weights)}: {words}\n" for words, weights in shared.items()]
    lines.append(
        "- follows w: of the teacher's samples at every w, those at the same w are nearest\n"
    )
    if any(not check.is_asked for verdict in students for check in verdict.checks):
        lines.append(f"- {NOT_PAIRED}\n")
    return "Bounds:\n\n" + "".join(lines)


def _bound(check: Check) -> str:
    if check.least is not None and check.most is not None:
        return f"{check.least:g} .. {check.most:g}"
    return f"<= {check.most:g}" if check.most is not None else f">= {check.least:g}"


def _ratio(value: float | None, other: float | None) -> str:
    return f"{value / other:.2f}" if value is not None and other else "-"
