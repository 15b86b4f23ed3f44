"""Write a report: numbers for programs, tables for people. Equal content gives equal bytes."""

import json
from collections.abc import Sequence
from pathlib import Path

from pipeline.evaluation.fidelity import Check, Verdict
from pipeline.evaluation.protocol import Report, Row
from pipeline.evaluation.scores import Scores

_COLUMNS = (
    *("evaluations", "to real", "95 % interval", "to teacher", "accuracy", "score", "precision"),
    *("recall", "RMS", "nearest"),
)

_LEGEND = """\
- **to real**: Frechet distance to {num_heldout} held-out real images, in the
  {features}; {num_samples} samples a row,
  classes balanced, 95 % interval by bootstrap over the samples.
- **to teacher**: the same distance to the teacher's own {reference_steps}-step samples from other
  noise (seed {yardstick_seed} instead of {seed}). In the teacher's own row it is the floor.
- **accuracy**: share that the classifier takes for the class asked for; it gets
  {classifier_heldout_accuracy:.1%} of the held-out images right. **score**: inception-type score
  (this classifier, not Inception). Both are fooled by class means: read them with the recall.
- **precision**, **recall**: k-nearest-neighbour manifolds in the same features, k = {neighbours}.
- **RMS**: root mean square difference to the teacher's {reference_steps}-step sample from the same
  noise, pixels in [-1, 1].
{prompt_legend}- **nearest**: mean RMS distance to the nearest of {num_training} training images.
- **evaluations**: of the network, for one sample. A guided teacher needs two a step, one at w = 0.
- w is the guidance weight of `(1 + w) conditional - w unconditional`; guidance_scale is 1 + w.

Classifier: {classifier_parameters:,} parameters, sha256 `{classifier_sha256}`.
Distances depend on it and on the number of samples: compare them within this report only.
"""

_PROMPT_LEGEND = """\
- **digit**, **ink**, **paper**, **all**: share of samples in which that part of the prompt is seen,
  the digit by the classifier, the colours by the pixels.
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
    parts.append("## All numbers\n")
    for w in report.weights:
        rows = [row for row in report.at(w) if row.cell.role != "yardstick"]
        prompts = _prompt_parts(rows)
        table = _head(prompts) + "".join(_line(row.cell.title, row, prompts) for row in rows)
        parts.append(f"### w = {w:g}\n\n{table}{_real_line(report.real, prompts)}")
    legend = _PROMPT_LEGEND if _prompt_parts(report.rows) else ""
    said = _LEGEND.format(**report.protocol.model_dump(), prompt_legend=legend)
    parts += ["## What the columns mean\n", said]
    if report.skipped:
        parts.append("Left out:\n\n" + "".join(f"- {reason}\n" for reason in report.skipped))
    return "\n".join(parts)


def _prompt_parts(rows: Sequence[Row]) -> tuple[str, ...]:
    """The parts of a prompt that samples were looked through for."""
    return tuple(rows[0].scores.prompt_accuracy or ()) if rows else ()


def _head(prompts: Sequence[str]) -> str:
    names = (*_COLUMNS, *prompts)
    rule = "".join(":-:|" if name.endswith("interval") else "--:|" for name in names)
    return f"| network | {' | '.join(names)} |\n|---|{rule}\n"


def _line(title: str, row: Row, prompts: Sequence[str]) -> str:
    return f"| {title} | {row.evaluations} {_values(row.scores, prompts)}"


def _real_line(real: Scores, prompts: Sequence[str]) -> str:
    return f"| *training images* | - {_values(real, prompts)}"


def _values(scores: Scores, prompts: Sequence[str]) -> str:
    low, high = scores.distance_to_real_interval
    cells = [
        f"{scores.distance_to_real:.3f}",
        f"{low:.3f} .. {high:.3f}",
        _optional(scores.distance_to_teacher),
        f"{scores.class_accuracy:.1%}",
        f"{scores.inception_score:.2f}",
        f"{scores.precision:.3f}",
        f"{scores.recall:.3f}",
        _optional(scores.rms_to_teacher),
        f"{scores.nearest_training:.3f}",
    ]
    seen = scores.prompt_accuracy or {}
    cells += [f"{seen[part]:.1%}" if part in seen else "-" for part in prompts]
    return "".join(f"| {cell} " for cell in cells) + "|\n"


def _optional(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


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
