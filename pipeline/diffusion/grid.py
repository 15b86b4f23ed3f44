"""The points an N-step student is asked at, and where each of its steps ends.

Points are whole numbers: point i is time i/N, so that grids nest exactly. No torch here.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Direction = Literal["decode", "encode"]
"""decode goes from noise (point N) to data (point 0), encode the other way."""

Sampling = Literal["deterministic", "stochastic"]
"""Whether a sampler adds noise between its steps."""


@dataclass(frozen=True)
class Grid:
    """Where an N-step sampler stands and how far each of its steps goes.

    A deterministic step ends where the next begins. A stochastic sampler steps twice as far and is
    noised back half of the way, so its step goes from i to i - 2; the last, from 1, to 0.

    Source: Meng et al. 2022, arXiv:2210.03142, sections 3.2 (deterministic) and 3.3
    (stochastic), and its progressive distillation for encoding.

    Attributes:
        steps: N.
        direction: from noise to data, or back.
        sampling: whether noise is added between steps.
    """

    steps: int
    direction: Direction = "decode"
    sampling: Sampling = "deterministic"

    @property
    def stride(self) -> int:
        """Points that one step goes, negative towards data."""
        if self.direction == "encode":
            return 1
        return -2 if self.sampling == "stochastic" else -1

    @property
    def starts(self) -> range:
        """The points the network is asked at: 1..N, or 0..N-1 for an encoder."""
        return range(1, self.steps + 1) if self.direction == "decode" else range(self.steps)

    def end(self, start: int) -> int:
        """The point where the step from `start` ends."""
        return min(max(start + self.stride, 0), self.steps)

    def walk(self, start: int, end: int) -> Iterator[int]:
        """The points from `start` to `end` in steps of this grid, both included."""
        yield start
        while start != end:
            start = max(start + self.stride, end) if self.stride < 0 else start + self.stride
            yield start


def nearest_point(time: float, steps: int) -> int:
    """The i for which i/N is nearest to a time in [0, 1], the later of two as near."""
    return math.floor(time * steps + 0.5)


def steps_folded(grid: Grid, teacher: Grid) -> tuple[int, ...]:
    """How many steps of the teacher make each of the student's steps, in order of `starts`.

    Each of them starts where the teacher is asked when it samples, and is as long as then. That
    holds for a stochastic student of any divisor of a stochastic teacher's N, and of a
    deterministic teacher's: from an odd point the last of them is the teacher's own last.

    Args:
        grid: the student's.
        teacher: its teacher's; a multiple of the student's points.
    """
    factor = teacher.steps // grid.steps
    return tuple(
        len(list(teacher.walk(start * factor, grid.end(start) * factor))) - 1
        for start in grid.starts
    )
