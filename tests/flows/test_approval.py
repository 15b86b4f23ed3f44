"""Manual approval: the flow run pauses until its form is submitted in Prefect."""

import threading
import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName
from prefect.flow_runs import resume_flow_run
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.testing.utilities import prefect_test_harness

from flows import quality_gate
from flows.quality_gate import request_approval
from flows.run import Run
from pipeline.config.profile import Profile
from pipeline.training.gate_policy import JudgedAttempt
from tests.support.gate_case import GateCase, gate_case


@pytest.fixture(scope="module")
def prefect_server() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> tuple[GateCase, JudgedAttempt]:
    case = gate_case(tmp_path_factory.mktemp("failed") / "run", "guidance.updates=20")
    return case, case.run_attempts()


def run_of(case: GateCase, hours: float) -> Run:
    assert case.recipe.gate is not None
    gate = case.recipe.gate.model_copy(update={"on_fail": ("ask",), "ask_hours": hours})
    recipe = case.recipe.model_copy(update={"gate": gate})
    return Run(recipe=recipe, profile=Profile(), path=str(case.run_dir), id="a" * 32, chain_id="")


def paused(name: str) -> UUID:
    """Wait until the flow run of this name is paused."""
    named = FlowRunFilter(name=FlowRunFilterName(any_=[name]))
    deadline = time.monotonic() + 120
    with get_client(sync_client=True) as client:
        while time.monotonic() < deadline:
            for found in client.read_flow_runs(flow_run_filter=named):
                if found.state is not None and found.state.is_paused():
                    return found.id
            time.sleep(0.2)
    raise AssertionError("the flow run was not paused")


@pytest.mark.needs_ray
@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize("accept", [True, False])
def test_the_flow_run_waits_for_a_manual_decision(
    failed: tuple[GateCase, JudgedAttempt], monkeypatch: pytest.MonkeyPatch, accept: bool
) -> None:
    monkeypatch.setattr(quality_gate, "_POLL_EVERY_S", 1)
    case, judged = failed
    name = f"decision {accept}"
    decisions: list[Any] = []

    @flow(name="round", flow_run_name=name, persist_result=False)
    def request() -> bool | str:
        return request_approval(run_of(case, 0.1), judged)

    @flow(persist_result=False)
    def chain() -> bool | str:
        return request()  # a round is a subflow

    thread = threading.Thread(target=lambda: decisions.append(chain()))
    thread.start()
    resume_flow_run(paused(name), run_input={"accept": accept})
    thread.join(60)
    assert decisions == [accept]
    events = run_of(case, 1).events.read()[0]
    requests = [each for each in events if each.kind == "approval_requested"]
    assert "within 0.1 h" in requests[-1].message
    with get_client(sync_client=True) as client:
        shown = client.read_artifacts()
    assert any(each.key == "gate-rounds-00-guidance" for each in shown)
    page = next(str(each.data) for each in shown if each.key == "gate-rounds-00-guidance")
    assert "| 2 | relative distance | **" in page
    assert page.count("data:image/png;base64,") == 2


@pytest.mark.needs_ray
@pytest.mark.usefixtures("prefect_server")
def test_a_request_without_a_decision_in_time_returns_the_reason(
    failed: tuple[GateCase, JudgedAttempt], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quality_gate, "_POLL_EVERY_S", 1)
    case, judged = failed

    @flow(name="round", persist_result=False)
    def request() -> bool | str:
        return request_approval(run_of(case, 1 / 3600), judged)

    reason = request()
    assert isinstance(reason, str)
    assert "within 0.000277778 h" in reason


@pytest.mark.slow
def test_a_temporary_server_cannot_request_approval(
    failed: tuple[GateCase, JudgedAttempt],
) -> None:
    case, judged = failed
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        reason = request_approval(run_of(case, 1), judged)
    assert isinstance(reason, str)
    assert "set PREFECT_API_URL" in reason
