"""Time grid of an N-step sampler: the points where the network is evaluated and each step's end.

Points are integers: point i is time i/N, so that grids nest exactly. Torch is not imported.
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
    """The time grid of an N-step sampler and the length of its steps.

    A deterministic step ends where the next begins. A stochastic step is twice as long, from i to
    i - 2, and is followed by renoising to i - 1. The last step goes from 1 to 0.

    Source: Meng et al. 2022, arXiv:2210.03142, sections 3.2 (deterministic) and 3.3
    (stochastic), and its progressive distillation for encoding.

    Attributes:
        steps: N.
        direction: noise to data (`decode`) or data to noise (`encode`).
        sampling: whether noise is added between steps.
    """

    steps: int
    direction: Direction = "decode"
    sampling: Sampling = "deterministic"

    @property
    def stride(self) -> int:
        """Signed length of one step in points, negative towards data."""
        if self.direction == "encode":
            return 1
        return -2 if self.sampling == "stochastic" else -1

    @property
    def starts(self) -> range:
        """Points where the network is evaluated: 1..N, or 0..N-1 for an encoder."""
        return range(1, self.steps + 1) if self.direction == "decode" else range(self.steps)

    def end(self, start: int) -> int:
        """End point of the step from `start`."""
        return min(max(start + self.stride, 0), self.steps)

    def walk(self, start: int, end: int) -> Iterator[int]:
        """Iterate over the points from `start` to `end` in steps of this grid, both included."""
        yield start
        while start != end:
            start = max(start + self.stride, end) if self.stride < 0 else start + self.stride
            yield start


def nearest_point(time: float, steps: int) -> int:
    """Compute the i for which i/N is nearest to a time in [0, 1]; ties round up."""
    return math.floor(time * steps + 0.5)


def steps_folded(grid: Grid, teacher: Grid) -> tuple[int, ...]:
    """Count the teacher steps folded into each of the student's steps, in order of `starts`.

    Every folded step lies on the teacher's own sampling grid and has its length. This holds for a
    stochastic student whose N divides that of a stochastic or a deterministic teacher: from an odd
    point, the last folded step is the teacher's own last step.

    Args:
        grid: the student's grid.
        teacher: the teacher's grid; its N is a multiple of the student's.
    """
    factor = teacher.steps // grid.steps
    return tuple(
        len(list(teacher.walk(start * factor, grid.end(start) * factor))) - 1
        for start in grid.starts
    )
