"""What a finished run says: the result in short, where the time went, where everything is."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from flows.console import near
from pipeline.wording import duration

_WORTH_A_LINE = 1.0  # seconds

_COLUMNS = {
    "to real": "distance_to_real",
    "to teacher": "distance_to_teacher",
    "accuracy": "class_accuracy",
    "RMS": "rms_to_teacher",
}


_DISTANCES = "Frechet distances in the features of a small classifier of this data; not FID.\n"
_NUMBERS = "evals: network evaluations a sample; RMS: to the teacher's sample of the same noise.\n"


def show_summary(
    console: Console, run_dir: Path, links: dict[str, str], report: str = "report"
) -> None:
    """Print the end of a run.

    Args:
        console: where to.
        run_dir: the finished run.
        links: more places worth knowing, by name.
        report: the folder of the report to show.
    """
    console.print()
    for part in [*_results(run_dir / report), *_times(run_dir)]:
        console.print(part)
    console.print(_places(run_dir, report, links), soft_wrap=True)


def _results(folder: Path) -> Iterator[RenderableType]:
    from pipeline.evaluation.protocol import Cell

    report = _read(folder / "report.json")
    rows = report.get("rows", [])
    if not rows:
        return
    weights = list(dict.fromkeys(row["cell"]["w"] for row in rows))
    # the largest weight but one: guided, and short of the end of the students' range
    w = weights[-2] if len(weights) > 1 else weights[-1]
    table = _table(f"Samples at w = {w:g}", "evals", *_COLUMNS)
    for row in rows:
        if row["cell"]["w"] == w:
            numbers = [_number(row["scores"].get(key)) for key in _COLUMNS.values()]
            cell = Cell.model_validate(row["cell"])
            title = f"{cell.title}, other noise" if cell.role == "yardstick" else cell.title
            table.add_row(title, str(row.get("evaluations", "")), *numbers)
    yield table
    has_distances = any("distance_to_real" in row["scores"] for row in rows)
    yield Text(f"{_DISTANCES if has_distances else ''}{_NUMBERS}", style="quiet")
    yield _faithful(report.get("verdicts", []))


def _faithful(told: list[dict[str, Any]]) -> Text:
    """Which students fail which checks, in a line each, and whether the controls are caught."""
    from pipeline.evaluation.fidelity import Verdict, why_void

    verdicts = [Verdict.model_validate(verdict) for verdict in told]
    students = [verdict for verdict in verdicts if verdict.judged == "student"]
    controls = [verdict for verdict in verdicts if verdict.judged != "student"]
    if not students:
        return Text("")
    if void := why_void(verdicts):
        return Text(f"{void}\n", style="careful")
    failing = [verdict for verdict in students if not verdict.passed]
    caught = sum(not verdict.passed for verdict in controls)
    text = Text(f"Faithful to the teacher: {len(students) - len(failing)} of {len(students)} ")
    text.append(f"students' rows pass every check; {caught} of {len(controls)} bad controls caught")
    for verdict in failing:
        missed = [f"{each.name} {each.value:.3g}" for each in verdict.checks if not each.passed]
        text.append(f"\n  w = {verdict.w:g}, {verdict.title}: {', '.join(missed)}", style="careful")
    return text.append("\n")


def _times(run_dir: Path) -> Iterator[RenderableType]:
    timing = _read(run_dir / "report" / "timing.json")
    if not timing.get("stages"):
        return
    table = _table("Where the time went", "time")
    short = 0.0
    for stage in timing["stages"]:
        if stage["seconds"] < _WORTH_A_LINE:
            short += stage["seconds"]
        else:
            table.add_row(stage["label"], duration(stage["seconds"]))
    table.add_row(f"all that took less than {_WORTH_A_LINE:.0f} s", duration(short))
    table.add_row("in all", duration(timing["total_seconds"]), style="name")
    yield table
    yield Text("")


def _places(run_dir: Path, report: str, links: dict[str, str]) -> Text:
    """One line each, never cut: they are there to be copied."""
    files = {
        "Page": run_dir / report / "index.html",
        "Report": run_dir / report / "report.md",
        "Numbers": run_dir / report / "report.json",
        "Students": run_dir / "rounds",
        "Pipelines": run_dir / "pipelines",
        "Log": run_dir / "logs" / "run.log",
    }
    said = {name: near(path) for name, path in files.items() if path.exists()}
    lines = [
        Text(f"{name:<10}", style="name").append(text, style="default")
        for name, text in {**said, **links}.items()
    ]
    return Text("\n").join(lines)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="name", box=None, pad_edge=False)
    table.add_column("", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", header_style="quiet", no_wrap=True)
    return table


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
