"""Grids nest: a student's step consists of its teacher's sampling steps."""

import itertools

import pytest

from pipeline.diffusion.grid import Direction, Grid, Sampling, steps_folded

KINDS: list[tuple[Direction, Sampling]] = [
    ("decode", "deterministic"),
    ("decode", "stochastic"),
    ("encode", "deterministic"),
]
factors = pytest.mark.parametrize("factor", [1, 2, 3, 4])
every_kind = pytest.mark.parametrize(("direction", "sampling"), KINDS)


def test_where_steps_begin_and_end() -> None:
    def spans(grid: Grid) -> list[tuple[int, int]]:
        return [(start, grid.end(start)) for start in grid.starts]

    assert spans(Grid(3)) == [(1, 0), (2, 1), (3, 2)]
    assert spans(Grid(3, sampling="stochastic")) == [(1, 0), (2, 0), (3, 1)]
    assert spans(Grid(3, direction="encode")) == [(0, 1), (1, 2), (2, 3)]


@every_kind
@factors
@pytest.mark.parametrize("steps", [1, 2, 3, 8])
def test_the_steps_of_a_walk_are_steps_of_the_teacher(
    direction: Direction, sampling: Sampling, factor: int, steps: int
) -> None:
    grid, teacher = Grid(steps, direction, sampling), Grid(steps * factor, direction, sampling)
    for start in grid.starts:
        walk = list(teacher.walk(start * factor, grid.end(start) * factor))
        assert (walk[0], walk[-1]) == (start * factor, grid.end(start) * factor)
        assert all(end == teacher.end(begin) for begin, end in itertools.pairwise(walk))
        assert all(begin in teacher.starts for begin in walk[:-1])


def test_a_stochastic_student_may_also_follow_a_deterministic_teacher() -> None:
    grid = Grid(4, sampling="stochastic")
    assert steps_folded(grid, Grid(4)) == (1, 2, 2, 2)
    assert steps_folded(grid, Grid(16)) == (4, 8, 8, 8)
    assert steps_folded(grid, Grid(8, sampling="stochastic")) == (1, 2, 2, 2)
    assert steps_folded(grid, Grid(12, sampling="stochastic")) == (2, 3, 3, 3)
