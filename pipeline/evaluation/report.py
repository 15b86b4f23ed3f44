"""Write a report: numbers for programs, tables for people. Equal content gives equal bytes."""

import json
from collections.abc import Sequence
from pathlib import Path

from pipeline.evaluation.fidelity import Check, Verdict
from pipeline.evaluation.panels import panel_section
from pipeline.evaluation.protocol import Report, Row
from pipeline.evaluation.sweep import sweep_tables
from pipeline.evaluation.tables import Line, protocol_table, table

_TABLES = {
    "Against real images": (
        *("distance_to_real", "kid_to_real", "precision", "recall", "density", "coverage"),
        "nearest_training",
    ),
    "As asked": ("class_accuracy", "inception_score", "prompt_accuracy"),
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
    parts += ["## How each number was made\n", protocol_table(report.metrics)]
    parts.append(_LEGEND.format(**report.protocol.model_dump()))
    parts += [panel_section(panel) for panel in report.panels]
    if report.skipped:
        parts.append("Left out:\n\n" + "".join(f"- {reason}\n" for reason in report.skipped))
    return "\n".join(parts)


def _lines(report: Report, w: float) -> list[Line]:
    rows = [row for row in report.at(w) if row.cell.role != "yardstick"]
    found = [Line(row.cell.title, str(row.evaluations), row.scores.model_dump()) for row in rows]
    return [*found, Line("*training images*", "-", report.real.model_dump())]


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
        "distance to itself from other noise.\n\n"
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
        against = f"{found:.3f} ({rival.cell.title}) | {_ratio(distance, found)}"
    whole = _ratio(distance, reference.scores.distance_to_real)
    floor = _ratio(student.scores.distance_to_teacher, reference.scores.distance_to_teacher)
    cells = (f"{student.cell.w:g}", str(student.evaluations), f"{distance:.3f}", against)
    return "".join(f"| {cell} " for cell in (*cells, whole, floor)) + "|\n"


def _fidelity(report: Report) -> str:
    students = [verdict for verdict in report.verdicts if verdict.judged == "student"]
    controls = [verdict for verdict in report.verdicts if verdict.judged != "student"]
    if not students:
        return "No student was judged.\n"
    names = [check.name for check in students[0].checks]
    head = f"| w | samples | {' | '.join(names)} | to teacher / floor | |\n"
    rule = "|--:|---|" + "--:|" * (len(names) + 1) + "---|\n"
    lines = [_verdict_line(verdict) for verdict in [*students, *controls]]
    passed = sum(verdict.passed for verdict in students)
    caught = sum(not verdict.passed for verdict in controls)
    said = (
        f"{passed} of {len(students)} students' rows pass every check; {caught} of "
        f"{len(controls)} controls, bad on purpose, are caught. All but RMS and w are ratios to "
        "the teacher's reference; what fails is bold.\n\n"
    )
    return said + head + rule + "".join(lines) + "\n" + _bounds(students)


def _verdict_line(verdict: Verdict) -> str:
    values = [
        f"{check.value:.3g}" if check.passed else f"**{check.value:.3g}**"
        for check in verdict.checks
    ]
    factor = "-" if verdict.floor_factor is None else f"{verdict.floor_factor:.2f}"
    end = "pass" if verdict.passed else "fail"
    title = verdict.title if verdict.judged == "student" else f"*control: {verdict.title}*"
    return f"| {' | '.join([f'{verdict.w:g}', title, *values, factor, end])} |\n"


def _bounds(students: Sequence[Verdict]) -> str:
    """The bounds in words, for each guidance weight once if they differ."""
    said: dict[str, list[str]] = {}
    for verdict in students:
        words = ", ".join(
            f"{check.name} {_bound(check)}" for check in verdict.checks if check.name != "follows w"
        )
        w = f"{verdict.w:g}"
        if w not in said.setdefault(words, []):
            said[words].append(w)
    lines = [f"- at w = {', '.join(weights)}: {words}\n" for words, weights in said.items()]
    return (
        "Bounds:\n\n"
        + "".join(lines)
        + ("- follows w: of the teacher's samples at every w, those at the same w are nearest\n")
    )


def _bound(check: Check) -> str:
    if check.least is not None and check.most is not None:
        return f"{check.least:g} .. {check.most:g}"
    return f"<= {check.most:g}" if check.most is not None else f">= {check.least:g}"


def _ratio(value: float | None, other: float | None) -> str:
    return f"{value / other:.2f}" if value is not None and other else "-"
