"""Timing, results and tables shared by all benchmarks."""

import importlib
import json
import logging
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from infra.ray.worker import prepare_process
from pipeline.documents import Document

Arm = Callable[[int], None]
"""Does something a given number of times."""


class Row(Document):
    """One measurement.

    Attributes:
        name: short and stable, `group/thing`; the key to look it up by.
        what: its description in the table.
        value: the measured number, a median where several blocks were timed.
        unit: of the value.
        ratio: to what `what` names as the comparison; None if it stands alone.
        target: bound on the ratio, or on the value, such as "<= 1.15".
        passed: whether the bound holds; None without a target.
        details: further numbers and short texts.
    """

    name: str
    what: str
    value: float
    unit: str
    ratio: float | None = None
    target: str | None = None
    passed: bool | None = None
    details: dict[str, Any] = {}


class Part(Document):
    """The rows of one benchmark, and the measurement conditions.

    Attributes:
        name: of the benchmark.
        about: what it measures, one line.
        quick: counts were reduced: a check that it works, no measurement.
        seconds: duration of the whole benchmark.
        machine: where it ran; numbers of two machines are not comparable.
        rows: the numbers.
    """

    name: str
    about: str
    quick: bool
    seconds: float
    machine: str
    rows: tuple[Row, ...]

    def row(self, name: str) -> Row:
        """The row of that name."""
        return next(row for row in self.rows if row.name == name)


@dataclass(frozen=True)
class Settings:
    """Measurement settings.

    Attributes:
        quick: reduce all counts until everything only just runs.
        scratch: an empty folder that is removed afterwards.
    """

    quick: bool
    scratch: Path

    def count(self, full: int, quick: int) -> int:
        """Return the count for the full or the quick form."""
        return quick if self.quick else full


def at_most(limit: float, found: float) -> dict[str, Any]:
    """Return the target fields of a row whose value must not exceed a limit."""
    return {"target": f"<= {limit:g}", "passed": found <= limit}


def at_least(limit: float, found: float) -> dict[str, Any]:
    """Return the target fields of a row whose value must reach a limit."""
    return {"target": f">= {limit:g}", "passed": found >= limit}


@dataclass(frozen=True)
class Timing:
    """Seconds of one repetition, block by block.

    Attributes:
        wall: by the clock.
        cpu: of this process, all its threads together.
    """

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """The median by the clock."""
        return statistics.median(self.wall)

    def over(self, other: "Timing") -> float:
        """Return the ratio of the times: median over neighbouring blocks."""
        return statistics.median(a / b for a, b in zip(self.wall, other.wall, strict=True))

    def details(self) -> dict[str, Any]:
        """Blocks and CPU time, for a row's details."""
        return {
            "blocks_ms": [round(1e3 * each, 3) for each in self.wall],
            "cpu_ms": round(1e3 * statistics.median(self.cpu), 3),
        }


def interleave(
    arms: Mapping[str, Arm], *, blocks: int, per_block: int, warm: int = 1
) -> dict[str, Timing]:
    """Time several arms alternately, so that other load slows all of them.

    The order is reversed after every block. A ratio of two arms is the median of the ratios of
    neighbouring blocks: what slows a whole turn cancels.

    Args:
        arms: by name.
        blocks: timed blocks of every arm.
        per_block: repetitions in a block.
        warm: repetitions of every arm before any is timed.
    """
    timings = {name: Timing() for name in arms}
    for arm in arms.values():
        arm(warm)
    for block in range(blocks):
        order = list(arms)
        for name in order if block % 2 == 0 else reversed(order):
            _synchronise()
            wall, cpu = time.perf_counter(), time.process_time()
            arms[name](per_block)
            _synchronise()
            timings[name].wall.append((time.perf_counter() - wall) / per_block)
            timings[name].cpu.append((time.process_time() - cpu) / per_block)
    return timings


def repeated(action: Callable[[], object]) -> Arm:
    """An arm that repeats one call."""

    def arm(count: int) -> None:
        for _ in range(count):
            action()

    return arm


def _synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def run(name: str, where: str, *, quick: bool) -> Part:
    """Measure in this fresh process.

    Args:
        name: of the benchmark.
        where: `module:function` that measures it, in this package.
        quick: see `Settings`.
    """
    prepare_process(1)  # as the product's workers do before any work
    logging.getLogger().setLevel(logging.ERROR)
    module, _, function = where.partition(":")
    measure = getattr(importlib.import_module(f"tests.benchmarks.{module}"), function)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        rows = tuple(measure(Settings(quick=quick, scratch=Path(scratch))))
    return Part(
        name=name,
        about=(measure.__doc__ or "").partition("\n")[0],
        quick=quick,
        seconds=round(time.monotonic() - began, 1),
        machine=this_machine(),
        rows=rows,
    )


def read_parts(path: Path) -> dict[str, Part]:
    """The parts of a results file by name; empty if there is no file."""
    if not path.is_file():
        return {}
    tree = json.loads(path.read_text(encoding="utf-8"))
    return {part["name"]: Part.model_validate(part) for part in tree["parts"]}


def write_parts(path: Path, parts: dict[str, Part]) -> None:
    """Write a results file, and its tables beside it as Markdown."""
    tree = {"parts": [part.model_dump(mode="json") for part in parts.values()]}
    path.write_text(json.dumps(tree, indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(to_markdown(parts.values()), encoding="utf-8")


def to_markdown(parts: Iterable[Part]) -> str:
    """All parts, each a section with a table."""
    lines = ["# Benchmarks"]
    for part in parts:
        note = ", **reduced counts: no measurement**" if part.quick else ""
        lines += ["", f"## {part.name}", "", f"{part.about} ({part.seconds:.0f} s{note})", ""]
        lines += [
            f"{part.machine}",
            "",
            "| what | measured | ratio | target |",
            "|---|--:|--:|---|",
        ]
        lines += [_line(row) for row in part.rows]
    return "\n".join(lines) + "\n"


def _line(row: Row) -> str:
    value = f"{row.value:,.0f}" if abs(row.value) >= 1000 else f"{row.value:.3g}"
    ratio = "" if row.ratio is None else f"{row.ratio:.3g}"
    met = {True: "met", False: "missed", None: ""}[row.passed]
    target = f"{row.target or ''} {met}".strip()
    return f"| {row.what} | {f'{value} {row.unit}'.strip()} | {ratio} | {target} |"


def this_machine() -> str:
    """Processor, cores, memory, GPU and versions, in one line."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    fields = {
        key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)
    }
    flags = {"avx512f", "avx512_bf16", "amx_bf16"}.intersection(fields.get("flags", "").split())
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no GPU"
    model = f"{fields.get('model name')} (model {fields.get('model')})"
    return (
        f"{' '.join([model, *sorted(flags)])}, {len(os.sched_getaffinity(0))} cores, "
        f"{memory:.1f} GiB; {gpu}; torch {torch.__version__}, Python {platform.python_version()}"
    )
