"""Fixtures of tests that inject a fault."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from flows.orchestration.server import prefect_server
from tests.faults.table import PROPERTY, FaultRow
from tests.support.chain import (
    KILLED,
    SMALLEST,
    Process,
    finish,
    log_of,
    result_of,
    start,
    wait_until_started,
)
from tests.support.doors import free_port

MakeRow = Callable[[str, str, str], FaultRow]


@pytest.fixture
def fault_row(request: pytest.FixtureRequest) -> Iterator[MakeRow]:
    """Begin a line of the table that `make faults` prints.

    Call it as `row = fault_row("4", "a Ray node dies", "train")` when the fault is about to be
    injected, then set what was measured: `row.outcome = "resumed"`, `row.noticed_s`,
    `row.recovered_s`, `row.lost`; see `FaultRow`. A test may make several. One that fails shows
    its lines as failed, whatever they say, so set the outcome before the assertions.

    Tests that take long or start a cluster have `@pytest.mark.nightly`, which keeps them out of
    `make test`; `make faults` runs all.
    """

    rows: list[FaultRow] = []

    def make(number: str, fault: str, stage: str) -> FaultRow:
        rows.append(FaultRow(number, fault, stage))
        return rows[-1]

    yield make
    # as plain values, which pass from one process of pytest to another
    request.node.user_properties += [(PROPERTY, asdict(row)) for row in rows]


@pytest.fixture(scope="session")
def prefect_of_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Environment variables of one Prefect server for all chains."""
    home = tmp_path_factory.mktemp("prefect")
    with pytest.MonkeyPatch.context() as settings, pytest.MonkeyPatch.context() as elsewhere:
        settings.setenv("PREFECT_HOME", str(home))
        with prefect_server(free_port(), home / "server.log") as started:
            variables = {"PREFECT_HOME": str(home), "PREFECT_API_URL": started.api_url}
            for name in variables:  # tests of other folders have servers of their own
                elsewhere.delenv(name)
            yield variables
            elsewhere.undo()


@pytest.fixture
def prefect(prefect_of_all: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the chains of this test use the shared server."""
    for name, value in prefect_of_all.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def undisturbed(finished_chain: Path, prefect: None) -> Path:
    """A finished chain to compare with; chains of this test use the shared server."""
    return finished_chain


@dataclass(frozen=True)
class DisturbedChain:
    """A chain of `SMALLEST` for fault injection, and a finished one of the same recipe."""

    run_dir: Path
    undisturbed: Path

    def start(self, stage: str, *extra: str, sets: list[str] = SMALLEST) -> Process:
        """Start it and wait until a stage has begun."""
        process = start(self.run_dir, *extra, sets=sets)
        wait_until_started(process, self.run_dir, stage)
        return process

    @property
    def log(self) -> str:
        return log_of(self.run_dir).read_text(errors="replace")

    def check_exit(self, process: Process, code: int = 0) -> None:
        assert process.wait(timeout=900) == code, self.log[-3000:]

    def finish(self, *extra: str, sets: list[str] = SMALLEST) -> float:
        """Run it to its end, and return the seconds that it took."""
        began = time.monotonic()
        assert finish(self.run_dir, *extra, sets=sets) == 0, self.log[-3000:]
        return time.monotonic() - began

    def check_result(self) -> None:
        """Check that its artifacts and report equal those of the undisturbed chain."""
        assert result_of(self.run_dir) == result_of(self.undisturbed)


@pytest.fixture
def chain(undisturbed: Path, tmp_path: Path) -> DisturbedChain:
    return DisturbedChain(tmp_path / "chain", undisturbed)


@pytest.fixture(autouse=True)
def orphans_end() -> Iterator[None]:
    """Stop the processes that killed drivers left running."""
    yield
    while KILLED:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(KILLED.pop(), signal.SIGKILL)
