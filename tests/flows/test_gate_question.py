"""A person is asked by a pause of the flow run, and answers in Prefect."""

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
from flows.quality_gate import ask_person
from flows.run import Run
from pipeline.config.profile import Profile
from pipeline.training.gate_policy import Judged
from tests.support.gate_case import GateCase, gate_case


@pytest.fixture(scope="module")
def prefect_server() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> tuple[GateCase, Judged]:
    case = gate_case(tmp_path_factory.mktemp("failed") / "run", "guidance.updates=20")
    return case, case.settle()


def run_of(case: GateCase, hours: float) -> Run:
    assert case.recipe.gate is not None
    gate = case.recipe.gate.model_copy(update={"ask_hours": hours})
    recipe = case.recipe.model_copy(update={"gate": gate})
    return Run(recipe=recipe, profile=Profile(), path=str(case.run_dir), chain_id="")


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
    raise AssertionError("nobody was asked")


@pytest.mark.cluster
@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize("said", [True, False])
def test_the_flow_run_waits_for_the_answer_of_a_person(
    failed: tuple[GateCase, Judged], monkeypatch: pytest.MonkeyPatch, said: bool
) -> None:
    monkeypatch.setattr(quality_gate, "_LOOK_EVERY_S", 1)
    case, judged = failed
    name = f"asks for {said}"
    heard: list[Any] = []

    @flow(name="round", flow_run_name=name, persist_result=False)
    def asks() -> bool | str:
        return ask_person(run_of(case, 0.1), judged)

    @flow(persist_result=False)
    def chain() -> bool | str:
        return asks()  # a round is a flow within a flow

    thread = threading.Thread(target=lambda: heard.append(chain()))
    thread.start()
    resume_flow_run(paused(name), run_input={"accept": said})
    thread.join(60)
    assert heard == [said]
    told = [each for each in run_of(case, 1).events.read()[0] if each.kind == "asked"]
    assert "is it good enough? Answer in Prefect within 0.1 h" in told[-1].message
    with get_client(sync_client=True) as client:
        shown = client.read_artifacts()
    assert any(each.key == "gate-rounds-00-guidance" for each in shown)
    page = next(str(each.data) for each in shown if each.key == "gate-rounds-00-guidance")
    assert "| 2 | distance | **" in page
    assert page.count("data:image/png;base64,") == 2


@pytest.mark.cluster
@pytest.mark.usefixtures("prefect_server")
def test_nobody_answers_in_time(
    failed: tuple[GateCase, Judged], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quality_gate, "_LOOK_EVERY_S", 1)
    case, judged = failed

    @flow(name="round", persist_result=False)
    def asks() -> bool | str:
        return ask_person(run_of(case, 1 / 3600), judged)

    assert asks() == "Nobody answered within 0.000277778 h"


def test_without_a_server_that_people_reach_nobody_is_asked(
    failed: tuple[GateCase, Judged],
) -> None:
    case, judged = failed
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        said = ask_person(run_of(case, 1), judged)
    assert isinstance(said, str)
    assert "set PREFECT_API_URL" in said
