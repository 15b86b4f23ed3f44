"""Killed at any failpoint, at its n-th time, and run again: the same bytes."""

import itertools
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import StepfoldError
from pipeline.failpoints import arm
from tests.faults.conftest import MakeRow
from tests.faults.kill_table import KILLED_IN_PROCESS, QUICK
from tests.faults.workloads import WORKLOADS

FAILED = 3
KILLED = "kill -9 at every failpoint"


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.faults.workloads"])
    return context


def _work(name: str, folder: Path, armed: str) -> None:
    arm(armed)
    try:
        WORKLOADS[name].work(folder)
    except (OSError, StepfoldError):
        os._exit(FAILED)


def _prepare(name: str, folder: Path) -> None:
    WORKLOADS[name].before(folder)


Run = Callable[[str, Path, str], int]


@pytest.fixture(scope="module")
def run(processes: ForkServerContext) -> Run:
    def run(name: str, folder: Path, armed: str = "") -> int:
        process = processes.Process(target=_work, args=(name, folder, armed))
        process.start()
        process.join(60)
        assert process.exitcode is not None, f"{name} hangs"
        return process.exitcode

    return run


class Templates:
    """For each workload its initial state, and the result of an undisturbed one."""

    def __init__(self, root: Path, processes: ForkServerContext, run: Run) -> None:
        self._root = root
        self._processes = processes
        self._run = run
        self._expected: dict[str, object] = {}

    def start(self, name: str, folder: Path) -> Path:
        template = self._root / name
        if not template.exists():
            process = self._processes.Process(target=_prepare, args=(name, template))
            process.start()
            process.join(60)
            assert process.exitcode == 0
        return Path(shutil.copytree(template, folder))

    def expected(self, name: str) -> object:
        if name not in self._expected:
            folder = self.start(name, self._root / f"{name} undisturbed")
            assert self._run(name, folder, "") == 0
            self._expected[name] = WORKLOADS[name].evidence(folder)
        return self._expected[name]


@pytest.fixture(scope="module")
def templates(
    tmp_path_factory: pytest.TempPathFactory, processes: ForkServerContext, run: Run
) -> Templates:
    return Templates(tmp_path_factory.mktemp("templates"), processes, run)


def cases() -> Iterator[Any]:
    """Return all cases; long ones that add little are marked for `make faults`."""
    seen: set[str] = set()
    for name, points in KILLED_IN_PROCESS.items():
        for point in points:
            is_known = point in seen and name not in QUICK
            seen.add(point)
            yield pytest.param(point, name, marks=[pytest.mark.nightly] if is_known else [])


def later_times() -> Iterator[int]:
    """2, 3, then ever wider apart."""
    return itertools.chain((2, 3), (2**power for power in itertools.count(2)))


@pytest.mark.parametrize(("point", "name"), list(cases()))
def test_killed_and_run_again_is_never_killed(
    point: str, name: str, run: Run, templates: Templates, tmp_path: Path, fault_row: MakeRow
) -> None:
    row = fault_row("1", KILLED, name)
    folder = templates.start(name, tmp_path / "folder")
    assert run(name, folder, f"{point}=kill9") == -signal.SIGKILL
    begun = time.monotonic()
    assert run(name, folder, "") == 0
    row.outcome, row.recovered_s = "resumed", time.monotonic() - begun
    assert WORKLOADS[name].evidence(folder) == templates.expected(name)


def every_case() -> Iterator[Any]:
    for name, points in KILLED_IN_PROCESS.items():
        marks = [] if name in QUICK else [pytest.mark.nightly]
        yield from (pytest.param(point, name, marks=marks) for point in points)


@pytest.mark.parametrize(("point", "name"), list(every_case()))
def test_killed_at_a_later_time_and_run_again_is_never_killed(
    point: str, name: str, run: Run, templates: Templates, tmp_path: Path, fault_row: MakeRow
) -> None:
    row = fault_row("1", KILLED, name)
    row.outcome = "resumed"
    for reached in later_times():
        folder = templates.start(name, tmp_path / str(reached))
        ended = run(name, folder, f"{point}=kill9@{reached}")
        if ended == -signal.SIGKILL:
            assert run(name, folder, "") == 0
        assert WORKLOADS[name].evidence(folder) == templates.expected(name), f"the {reached}. time"
        if ended == 0:
            return  # it is not reached so often
        assert ended == -signal.SIGKILL


@pytest.mark.parametrize(("point", "name"), list(every_case()))
def test_a_disk_that_fails_there_stops_the_work_and_costs_nothing_else(
    point: str, name: str, run: Run, templates: Templates, tmp_path: Path, fault_row: MakeRow
) -> None:
    row = fault_row("11", "the disk fails at any failpoint", name)
    folder = templates.start(name, tmp_path / "folder")
    assert run(name, folder, f"{point}=eio") == FAILED
    assert run(name, folder, "") == 0
    row.outcome = "resumed"
    assert WORKLOADS[name].evidence(folder) == templates.expected(name)
