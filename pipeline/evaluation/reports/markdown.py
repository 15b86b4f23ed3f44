"""Markdown of the class-conditional report: quality against cost and against w."""

import json
from collections.abc import Sequence
from pathlib import Path

from pipeline.evaluation.documents import SAMPLER_NAMES, Report, Role, Row
from pipeline.evaluation.extractor_metrics import extractor_section
from pipeline.evaluation.file_names import REPORT_JSON, REPORT_MARKDOWN
from pipeline.evaluation.tables import (
    TableLine,
    class_table,
    format_estimate,
    metric_table,
    protocol_table,
    value_of,
)
from pipeline.evaluation.verdicts.checks import UNPAIRED_RMS_NOTE, Check, Verdict, void_reason

_STUDENTS = "distilled students"

_BEST, _REST = "**", ""


def sweep_tables(report: Report) -> str:
    """Format distance at equal network evaluations by w, then each network's trade-off over w.

    As in the tables of Meng et al. 2022, arXiv:2210.03142.
    """
    parts = [
        "Distance to real images at equal network evaluations: the students, and the teacher "
        "with each training-free sampler. The lowest of a line is bold.\n"
    ]
    parts += [f"w = {w:g}:\n\n{_equal_evaluations(report, w)}" for w in report.weights]
    if len(report.weights) > 1:
        parts.append(
            "Guidance trade-off: distance to real images / score / recall, with 95 % intervals "
            f"in parentheses.\n\n{_trade(report)}"
        )
    return "\n".join(parts)


def rows_by_sampler(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Group rows into students, and the teacher with each training-free sampler."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        if row.cell.role == "student":
            noisy = ", stochastic" if row.cell.is_stochastic_student else ""
            found.setdefault(f"{_STUDENTS}{noisy}", []).append(row)
        elif row.cell.role in ("baseline", "teacher"):
            found.setdefault(f"teacher, {SAMPLER_NAMES[row.cell.sampler]}", []).append(row)
    return found


def _equal_evaluations(report: Report, w: float) -> str:
    by_family = rows_by_sampler(report.at(w))
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
    found = format_estimate(
        (row.scores.distance_to_real, row.scores.distance_to_real_interval), ".2f"
    )
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
    return " / ".join(format_estimate(value, ".2f") for value in found if value)


_TABLES = {
    "Against real images": (
        *("distance_to_real", "kid_to_real", "precision", "recall", "density", "coverage"),
        "nearest_training",
    ),
    "Conditioning": ("class_accuracy", "accuracy_by_class", "inception_score", "prompt_accuracy"),
    "Against the teacher": (
        *("distance_to_teacher", "rms_to_teacher", "psnr_to_teacher", "ssim_to_teacher"),
    ),
}

_LEGEND = """\
- In parentheses: 95 % intervals by bootstrap over the samples, stratified by class, with a fixed
  reference. {num_samples} samples per row, seed {seed}, classes balanced.
- Distances are computed in {features}.
  Its held-out accuracy is {classifier_heldout_accuracy:.1%}; it has
  {classifier_parameters:,} parameters and sha256 `{classifier_sha256}`.
- **to teacher** in the teacher's own row is the noise floor: its distance to itself from other
  noise (seed {noise_floor_seed} instead of {seed}).
- **accuracy** and **score** are high for class means too: read them together with recall.
- **worst class** is the class of lowest accuracy. The minimum over many classes is low by chance
  too, which its interval does not include. An accuracy of 0 or 1 has an interval of zero width.
- **evaluations**: network evaluations per sample. A guided teacher needs two per step, one at
  w = 0.
- w is the guidance weight of `(1 + w) conditional - w unconditional`; guidance_scale is 1 + w.

Numbers of different protocols are not comparable. These depend on the classifier and on the number
of samples, so compare them within this report only.
"""


def write_report(report: Report, folder: Path) -> None:
    """Write `report.json` and `report.md` into `folder`."""
    text = json.dumps(report.model_dump(mode="json"), indent=1, ensure_ascii=False)
    (folder / REPORT_JSON).write_text(text + "\n", encoding="utf-8")
    (folder / REPORT_MARKDOWN).write_text(_markdown(report), encoding="utf-8")


def read_report(folder: Path) -> Report:
    """Load the `report.json` of a folder."""
    return Report.model_validate_json((folder / REPORT_JSON).read_text(encoding="utf-8"))


def _markdown(report: Report) -> str:
    parts = [f"# {report.run}: students vs. their teacher\n"]
    void = void_reason(report.verdicts)
    parts += [f"**{void}**\n"] if void else []
    parts += [f"![{Path(name).stem}]({name})\n" for name in report.pictures]
    parts += ["## At equal cost\n", _equal_cost(report)]
    parts += ["## Verdicts\n", _fidelity(report)]
    parts += ["## Guidance sweep\n", sweep_tables(report)]
    parts.append("## All metrics\n")
    for w in report.weights:
        lines = _lines(report, w)
        parts.append(f"### w = {w:g}\n")
        for title, keys in _TABLES.items():
            metrics = [metric for metric in report.metrics if metric.metric in keys]
            parts.append(f"{title}:\n\n{metric_table(metrics, lines)}")
        by_class = class_table(_lines_of(report, w, ("teacher", "student")))
        parts += [f"Accuracy by class:\n\n{by_class}"] if by_class else []
    parts += ["## Metric protocols\n", protocol_table(report.metrics)]
    parts.append(_LEGEND.format(**report.protocol.model_dump()))
    parts += [extractor_section(panel) for panel in report.panels]
    if report.skipped:
        parts.append("Skipped:\n\n" + "".join(f"- {reason}\n" for reason in report.skipped))
    return "\n".join(parts)


def _lines(report: Report, w: float) -> list[TableLine]:
    found = _lines_of(report, w, ("teacher", "student", "baseline"))
    return [*found, TableLine("*training images*", "-", report.real.model_dump())]


def _lines_of(report: Report, w: float, roles: Sequence[Role]) -> list[TableLine]:
    return [
        TableLine(row.cell.title, str(row.evaluations), row.scores.model_dump())
        for row in report.at(w)
        if row.cell.role in roles
    ]


def best_baseline(report: Report, w: float, evaluations: int) -> Row | None:
    """Return the teacher's row nearest to real images within a budget of evaluations."""
    affordable = [
        row
        for row in report.at(w)
        if row.cell.role in ("baseline", "teacher") and row.evaluations <= evaluations
    ]
    return min(affordable, key=lambda row: row.scores.distance_to_real, default=None)


def _equal_cost(report: Report) -> str:
    lines = [
        "Distance to real images of each student, compared with the best training-free sampler of "
        "the teacher at no more network evaluations, and with the teacher's reference. The last "
        "column is the distance to the teacher's samples over the noise floor, the teacher's "
        "distance to itself from other noise. 95 % intervals in parentheses.\n\n"
        "| w | evaluations | student | teacher, training-free | student / teacher "
        "| student / reference | to teacher / noise floor |\n|--:|--:|--:|---|--:|--:|--:|\n"
    ]
    for w in report.weights:
        rows = report.at(w)
        reference = next(row for row in rows if row.cell.role == "teacher")
        for row in (row for row in rows if row.cell.role == "student"):
            lines.append(
                _equal_cost_line(row, reference, best_baseline(report, w, row.evaluations))
            )
    return "".join(lines)


def _equal_cost_line(student: Row, reference: Row, baseline: Row | None) -> str:
    distance = student.scores.distance_to_real
    baseline_cells = "none at this cost | -"
    if baseline is not None:
        ratio = _ratio(distance, baseline.scores.distance_to_real)
        baseline_cells = f"{_to_real(baseline)}, {baseline.cell.title} | {ratio}"
    to_reference = _ratio(distance, reference.scores.distance_to_real)
    floor = _ratio(student.scores.distance_to_teacher, reference.scores.distance_to_teacher)
    noisy = ", stochastic" if student.cell.is_stochastic_student else ""
    cells = (
        f"{student.cell.w:g}",
        f"{student.evaluations}{noisy}",
        _to_real(student),
        baseline_cells,
    )
    return "".join(f"| {cell} " for cell in (*cells, to_reference, floor)) + "|\n"


def _to_real(row: Row) -> str:
    return format_estimate((row.scores.distance_to_real, row.scores.distance_to_real_interval))


def _fidelity(report: Report) -> str:
    students = [verdict for verdict in report.verdicts if verdict.judged == "student"]
    controls = [verdict for verdict in report.verdicts if verdict.judged != "student"]
    if not students:
        return "No student was checked.\n"
    names = [check.name for check in students[0].checks]
    head = f"| w | samples | {' | '.join(names)} | to teacher / noise floor | |\n"
    rule = "|--:|---|" + "--:|" * (len(names) + 1) + "---|\n"
    void = void_reason(report.verdicts)
    lines = [_verdict_line(verdict, "void" if void else "") for verdict in students]
    lines += [_verdict_line(verdict) for verdict in controls]
    passed = sum(verdict.passed for verdict in students)
    caught = sum(not verdict.passed for verdict in controls)
    counted = f"{passed} of {len(students)} student rows pass every check."
    summary = (
        f"{void or counted} {caught} of "
        f"{len(controls)} negative controls fail a check (all must). All checks but RMS and w are "
        "ratios to the teacher's reference. Failed checks are bold.\n\n"
    )
    return summary + head + rule + "".join(lines) + "\n" + _bounds(students)


def _verdict_line(verdict: Verdict, instead: str = "") -> str:
    """Format a line of the table; `instead` replaces "pass" or "fail" if not empty."""
    values = [check.as_markdown for check in verdict.checks]
    factor = "-" if verdict.floor_factor is None else f"{verdict.floor_factor:.2f}"
    end = instead or ("pass" if verdict.passed else "fail")
    title = verdict.title if verdict.judged == "student" else f"*control: {verdict.title}*"
    return f"| {' | '.join([f'{verdict.w:g}', title, *values, factor, end])} |\n"


def _bounds(students: Sequence[Verdict]) -> str:
    """List the bounds, with guidance weights of equal bounds together."""
    by_weight: dict[str, dict[str, str]] = {}
    for verdict in students:
        at_w = by_weight.setdefault(f"{verdict.w:g}", {})
        at_w |= {check.name: _bound(check) for check in verdict.checks if check.is_bounded}
    shared: dict[str, list[str]] = {}
    for w, bounds in by_weight.items():
        text = ", ".join(
            f"{name} {bound}" for name, bound in bounds.items() if name != "w consistency"
        )
        shared.setdefault(text, []).append(w)
    lines = [f"- at w = {', '.join(weights)}: {text}\n" for text, weights in shared.items()]
    lines.append(
        "- w consistency: the nearest teacher samples over all w are those of the same w\n"
    )
    if any(not check.is_bounded for verdict in students for check in verdict.checks):
        lines.append(f"- {UNPAIRED_RMS_NOTE}\n")
    return "Bounds:\n\n" + "".join(lines)


def _bound(check: Check) -> str:
    if check.least is not None and check.most is not None:
        return f"{check.least:g} .. {check.most:g}"
    return f"<= {check.most:g}" if check.most is not None else f">= {check.least:g}"


def _ratio(value: float | None, other: float | None) -> str:
    return f"{value / other:.2f}" if value is not None and other else "-"
