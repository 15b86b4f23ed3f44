"""Time several ways to do the same in one process, in turns, so that a busy minute hits them all.

One block is some repetitions of one arm. Blocks alternate, in an order that is turned round every
time, after a warm-up of every arm. What is reported is the median over blocks, and a ratio is the
median of the ratios of neighbouring blocks: what slows a whole round of blocks cancels.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

Arm = Callable[[int], None]
"""Does something a number of times."""


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
        """How many times as long this takes as the other, by the clock."""
        return _paired(self.wall, other.wall)

    def details(self, other: "Timing | None" = None) -> dict[str, Any]:
        """Blocks, CPU time, and the ratio in CPU time, for a row's details."""
        found: dict[str, Any] = {
            "blocks_ms": [round(1e3 * each, 3) for each in self.wall],
            "cpu_ms": round(1e3 * statistics.median(self.cpu), 3),
        }
        if other is not None:
            ratios = sorted(a / b for a, b in zip(self.wall, other.wall, strict=True))
            found["ratio_lowest"] = round(ratios[0], 4)
            found["ratio_highest"] = round(ratios[-1], 4)
            found["cpu_ratio"] = round(_paired(self.cpu, other.cpu), 4)
        return found


def _paired(ours: list[float], theirs: list[float]) -> float:
    return statistics.median(a / max(b, 1e-9) for a, b in zip(ours, theirs, strict=True))


def interleave(
    arms: Mapping[str, Arm], *, blocks: int, per_block: int, warm: int = 1
) -> dict[str, Timing]:
    """Time arms in turns.

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
    """An arm that does one thing again and again."""

    def arm(count: int) -> None:
        for _ in range(count):
            action()

    return arm


def _synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


class Stopwatch:
    """Splits a repeated sequence into named parts; medians over its rounds, in seconds."""

    def __init__(self) -> None:
        self._parts: dict[str, list[float]] = {}
        self._last = time.perf_counter()

    def begin(self) -> None:
        """A round of parts begins."""
        _synchronise()
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """What was done since the last call belongs to `name`."""
        _synchronise()
        now = time.perf_counter()
        self._parts.setdefault(name, []).append(now - self._last)
        self._last = now

    def medians(self) -> dict[str, float]:
        """Seconds of every part."""
        return {name: statistics.median(values) for name, values in self._parts.items()}
