"""The results as tables: Markdown for the README, and the same on the screen."""

from collections.abc import Iterable

from rich.table import Table

from tests.benchmarks.rows import Hardware, Part, Row

_HEAD = ("what", "measured", "ratio", "target")
_MARK = {True: "met", False: "missed", None: ""}


def to_markdown(parts: Iterable[Part]) -> str:
    """All parts, each a section; the hardware is named wherever it changes."""
    lines = ["# Benchmarks", ""]
    hardware = None
    for part in parts:
        if part.hardware != hardware:
            hardware = part.hardware
            lines += [f"Measured on {describe(hardware)}.", ""]
        lines += _section(part)
    return "\n".join(lines).rstrip() + "\n"


def describe(hardware: Hardware) -> str:
    """One line."""
    gpu = hardware.gpu or "no GPU"
    return (
        f"{hardware.cpu}, {hardware.cores} cores, {hardware.memory_gib:g} GiB; {gpu}; "
        f"torch {hardware.torch}, Python {hardware.python}, {hardware.system}"
    )


def _section(part: Part) -> list[str]:
    threads = f"{part.threads} thread" + ("s" if part.threads > 1 else "")
    conditions = f"{threads}, {part.seconds:.0f} s"
    if part.quick:
        conditions += ", **reduced counts: no measurement**"
    lines = [f"## {part.name}", "", f"{part.about} ({conditions})", ""]
    lines += [f"| {' | '.join(_HEAD)} |", "|---|--:|--:|---|"]
    lines += [f"| {' | '.join(_cells(row))} |" for row in part.rows]
    return [*lines, ""]


def to_screen(part: Part) -> Table:
    """One part."""
    table = Table(*_HEAD, title=part.about)
    style = {True: "green", False: "red", None: ""}
    for row in part.rows:
        table.add_row(*_cells(row), style=style[row.passed])
    return table


def _cells(row: Row) -> tuple[str, ...]:
    ratio = "" if row.ratio is None else f"{row.ratio:.3g}"
    target = "" if row.target is None else f"{row.target} {_MARK[row.passed]}"
    return row.what, f"{readable(row.value)} {row.unit}".strip(), ratio, target


def readable(value: float) -> str:
    """Three digits, thousands apart."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
