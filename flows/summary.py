"""What a finished run says: the result in short, where the time went, where everything is."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from flows.console import duration, near

_COLUMNS = {
    "to real": "distance_to_real",
    "to teacher": "distance_to_teacher",
    "accuracy": "class_accuracy",
    "RMS to teacher": "rms_to_teacher",
}


def show_summary(console: Console, run_dir: Path, links: dict[str, str]) -> None:
    """Print the end of a run.

    Args:
        console: where to.
        run_dir: the finished run.
        links: more places worth knowing, by name.
    """
    parts = [*_results(run_dir), *_times(run_dir), _places(run_dir, links)]
    console.print(Padding(Group(*parts), (1, 0, 0, 0)))


def _results(run_dir: Path) -> Iterator[RenderableType]:
    report = _read(run_dir / "report" / "report.json")
    rows = report.get("rows", [])
    if not rows:
        return
    weights = list(dict.fromkeys(row["cell"]["w"] for row in rows))
    # the largest weight but one: guided, and short of the end of the students' range
    w = weights[-2] if len(weights) > 1 else weights[-1]
    table = _table(f"Samples at w = {w:g}", "evaluations", *_COLUMNS)
    for row in rows:
        if row["cell"]["w"] == w:
            numbers = [_number(row["scores"].get(key)) for key in _COLUMNS.values()]
            table.add_row(_title(row["cell"]), str(row["cell"]["evaluations"]), *numbers)
    yield table
    yield Text(
        "Frechet distances in the features of a small classifier of this data; not FID.\n",
        style="quiet",
    )


def _times(run_dir: Path) -> Iterator[RenderableType]:
    timing = _read(run_dir / "report" / "timing.json")
    if not timing.get("stages"):
        return
    table = _table("Where the time went", "time")
    for stage in timing["stages"]:
        table.add_row(stage["label"], duration(stage["seconds"]))
    table.add_section()
    table.add_row("all stages", duration(timing["total_seconds"]))
    yield table


def _places(run_dir: Path, links: dict[str, str]) -> RenderableType:
    rows = {
        "Report": run_dir / "report" / "report.md",
        "Numbers": run_dir / "report" / "report.json",
        "Students": run_dir / "rounds",
        "Log": run_dir / "logs" / "run.log",
    }
    table = Table.grid(padding=(0, 2))
    for name, path in rows.items():
        if path.exists():
            table.add_row(Text(name, style="name"), Text(near(path)))
    for name, link in links.items():
        table.add_row(Text(name, style="name"), Text(link, overflow="fold"))
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(
        title=title, title_justify="left", title_style="name", box=None, pad_edge=False, padding=0
    )
    table.add_column("", no_wrap=False)
    for column in columns:
        table.add_column(f"  {column}", justify="right", header_style="quiet", style="default")
    return table


def _title(cell: dict[str, Any]) -> str:
    steps = f"{cell['steps']} step" + ("s" if cell["steps"] != 1 else "")
    if cell["role"] == "student":
        return f"{'stage-1 student' if cell['round'] == 0 else 'student'}, {steps}"
    sampler = {"ddim": "DDIM", "dpm++": "DPM-Solver++"}.get(cell["sampler"], cell["sampler"])
    return f"teacher, {sampler}, {steps}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
