"""The table of faults, for people."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

_COLUMNS = ("", "fault", "stage", "cases", "outcome", "noticed", "recovered", "work lost")


def show(tests: Mapping[str, Mapping[str, Any]]) -> None:
    """Print a line for each fault and stage, and the tests that failed."""
    console = Console()
    table = Table(*_COLUMNS, title="Faults", title_justify="left", box=None, pad_edge=False)
    lines: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for test in tests.values():
        for row in test["rows"]:
            key = (row["number"], row["fault"], row["stage"])
            lines.setdefault(key, []).append({**row, "passed": test["passed"]})
    for key in sorted(lines, key=lambda key: (_order(key[0]), key)):
        table.add_row(*key, *_line(lines[key]))
    console.print(table)
    failed = [name for name, test in tests.items() if not test["passed"]]
    seconds = sum(test["seconds"] for test in tests.values())
    console.print(f"{len(tests) - len(failed)} of {len(tests)} passed, {seconds / 60:.0f} minutes")
    for name in failed:
        console.print(f"  failed: {name}", style="red", soft_wrap=True, markup=False)


def _order(number: str) -> tuple[int, str]:
    found = re.fullmatch(r"(\d+)(\w*)", number)
    return (int(found[1]), found[2]) if found else (0, number)


def _line(rows: list[dict[str, Any]]) -> tuple[str, ...]:
    outcomes = {row["outcome"] or "?" if row["passed"] else "[red]FAILED[/]" for row in rows}
    lost = [row["lost"] for row in rows]
    words = dict.fromkeys(each for each in lost if isinstance(each, str))
    return (
        str(len(rows)),
        ", ".join(sorted(outcomes)),
        _longest(row["noticed_s"] for row in rows),
        _longest(row["recovered_s"] for row in rows),
        ", ".join(filter(None, [_longest(lost), *words])),
    )


def _longest(values: Iterable[object]) -> str:
    seconds = [each for each in values if isinstance(each, int | float)]
    return f"{max(seconds):.1f} s" if seconds else ""
