"""What every test of a fault has at hand."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flows.orchestration.server import prefect_server
from tests.faults.fault_rows import PROPERTY, FaultRow
from tests.support.chain import KILLED
from tests.support.doors import free_port

MakeRow = Callable[[str, str, str], FaultRow]


@pytest.fixture
def fault_row(request: pytest.FixtureRequest) -> MakeRow:
    """Begin a line of the table that `make faults` prints.

    Call it as `row = fault_row("4", "a Ray node dies", "train")` when the fault is about to be
    injected, then set what was measured: `row.outcome = "resumed"`, `row.noticed_s`,
    `row.recovered_s`, `row.lost`; see `FaultRow`. A test may make several. One that fails shows
    its lines as failed, whatever they say, so set the outcome before the assertions.

    Tests that take long or start a cluster have `@pytest.mark.nightly`, which keeps them out of
    `make test`; `make faults` runs all.
    """

    def make(number: str, fault: str, stage: str) -> FaultRow:
        row = FaultRow(number, fault, stage)
        request.node.user_properties.append((PROPERTY, row))
        return row

    return make


@pytest.fixture(scope="session")
def prefect_of_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A Prefect server for all chains: each would start one of its own, and leave it if killed.

    What it yields says where it is; tests of other folders have servers of their own.
    """
    home = tmp_path_factory.mktemp("prefect")
    with pytest.MonkeyPatch.context() as settings, pytest.MonkeyPatch.context() as elsewhere:
        settings.setenv("PREFECT_HOME", str(home))
        with prefect_server(free_port(), home / "server.log") as started:
            told = {"PREFECT_HOME": str(home), "PREFECT_API_URL": started.api_url}
            for name in told:
                elsewhere.delenv(name)
            yield told
            elsewhere.undo()


@pytest.fixture
def prefect(prefect_of_all: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Chains of this test use the server of all."""
    for name, value in prefect_of_all.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def undisturbed(finished_chain: Path, prefect: None) -> Path:
    """A finished chain to compare with; that of this test uses the server of all."""
    return finished_chain


@pytest.fixture(autouse=True)
def orphans_end() -> Iterator[None]:
    """What killed drivers started ends with the test."""
    yield
    while KILLED:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(KILLED.pop(), signal.SIGKILL)
