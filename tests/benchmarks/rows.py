"""What a benchmark hands in: rows of numbers, and how they are kept from run to run."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.documents import Document


class Row(Document):
    """One measured thing.

    Attributes:
        name: short and stable, `group/thing`; the key to look it up by.
        what: a sentence for the table.
        value: the measured number, a median where several blocks were timed.
        unit: of the value.
        ratio: to what `what` names as the comparison; None if it stands alone.
        target: what is asked of the ratio, or of the value, such as "<= 1.15".
        passed: whether it was met; None without a target.
        details: whatever else a reader may want, numbers and short texts.
    """

    name: str
    what: str
    value: float
    unit: str
    ratio: float | None = None
    target: str | None = None
    passed: bool | None = None
    details: dict[str, Any] = {}


class Hardware(Document):
    """Where the numbers were made; those of two machines are not comparable."""

    cpu: str
    cores: int
    memory_gib: float
    gpu: str | None
    torch: str
    python: str
    system: str


class Part(Document):
    """The rows of one benchmark with the conditions they were measured under.

    Attributes:
        name: of the benchmark.
        about: its module's first line.
        quick: counts were reduced: a check that it works, no measurement.
        threads: torch's threads in the process that measured.
        seconds: what the whole benchmark took.
        hardware: where it ran.
        rows: the numbers.
    """

    name: str
    about: str
    quick: bool
    threads: int
    seconds: float
    hardware: Hardware
    rows: tuple[Row, ...]

    def row(self, name: str) -> Row:
        """The row of that name."""
        return next(row for row in self.rows if row.name == name)


@dataclass(frozen=True)
class Settings:
    """How to measure.

    Attributes:
        quick: reduce all counts until everything only just runs.
        profile: write profiles beside the results, where a benchmark has some.
        teacher: run directory of the digits demo, for the benchmarks that need a trained teacher.
        output: folder of the results.
        scratch: an empty folder that is removed afterwards.
    """

    quick: bool
    profile: bool
    teacher: Path
    output: Path
    scratch: Path

    def count(self, full: int, quick: int) -> int:
        """One of two counts."""
        return quick if self.quick else full


def at_most(limit: float, found: float) -> dict[str, Any]:
    """The target fields of a row whose number must not exceed a limit."""
    return {"target": f"<= {limit:g}", "passed": found <= limit}


def at_least(limit: float, found: float) -> dict[str, Any]:
    """The target fields of a row whose number must reach a limit."""
    return {"target": f">= {limit:g}", "passed": found >= limit}


def read_parts(path: Path) -> dict[str, Part]:
    """The parts of a results file by name; empty if there is no file."""
    if not path.is_file():
        return {}
    tree = json.loads(path.read_text(encoding="utf-8"))
    return {part["name"]: Part.model_validate(part) for part in tree["parts"]}


def write_parts(path: Path, parts: dict[str, Part]) -> None:
    """Write a results file."""
    tree = {"format_version": 1, "parts": [p.model_dump(mode="json") for p in parts.values()]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(tree, indent=1) + "\n", encoding="utf-8")
