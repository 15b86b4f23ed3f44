"""The table of faults: rows, outcomes so far, and printing."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock
from rich.console import Console
from rich.table import Table

from pipeline.durable import write_durably

PROPERTY = "fault"

Outcome = Literal["resumed", "refused", "quarantined"]


@dataclass
class FaultRow:
    """Result of a test; rows with equal first three fields are merged, with their worst numbers.

    Attributes:
        number: of the fault in the matrix, such as "1" or "21c".
        fault: what was done, in a few words.
        stage: the stage it was done to.
        outcome: the run continued to the same end, stopped with a reason and nothing lost, or set
            the bad part aside.
        noticed_s: seconds until the run or its user knew; None if no one waited.
        recovered_s: seconds from there until it was as far as before; None for a refusal.
        lost: work done twice, in seconds, or in words.
    """

    number: str
    fault: str
    stage: str
    outcome: Outcome | None = None
    noticed_s: float | None = None
    recovered_s: float | None = None
    lost: float | str | None = None


class Progress:
    """Outcomes of tests on one version of the sources, in a file that parts of the suite share.

    Attributes:
        path: the file; a lock is beside it.
        source: the hash of the sources; results of other sources are dropped.
    """

    def __init__(self, path: Path, source: str) -> None:
        self.path, self.source = path, source

    @property
    def tests(self) -> dict[str, dict[str, Any]]:
        """By test of any part: whether it passed, its seconds and its rows."""
        known = json.loads(self.path.read_text(encoding="utf-8")) if self.path.is_file() else {}
        found: dict[str, dict[str, Any]] = {}
        return known["tests"] if known.get("source") == self.source else found

    def keep(self, test: str, entry: dict[str, Any]) -> None:
        """Add the outcome of a test, or replace it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.path}.lock"):
            tests = self.tests | {test: entry}
            text = json.dumps({"source": self.source, "tests": tests}, indent=1)
            write_durably(self.path, text)


def show(tests: Mapping[str, Mapping[str, Any]]) -> None:
    """Print a line for each fault and stage, and the tests that failed."""
    console = Console()
    columns = ("", "fault", "stage", "cases", "outcome", "noticed", "recovered", "work lost")
    table = Table(*columns, title="Faults", title_justify="left", box=None, pad_edge=False)
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
