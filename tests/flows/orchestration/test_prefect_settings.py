"""Prefect: no persisted results, no pickle, a protected local server, lost connections."""

import importlib
import json
import subprocess
import sys

import httpx
import psutil
import pytest
from prefect import Flow, Task
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.orchestration.server import (
    configured_api_url,
    is_server_lost,
    start_temporary_server,
)
from pipeline.errors import InfraError
from tests.support.terminal import ROOT, environment

MODULES = ("full_distillation", "quality_gate", "scheduled_distillation", "tasks")

_SETTINGS = """
import json
from flows.orchestration import settings
settings.set_defaults()
from prefect.settings import get_current_settings
found = get_current_settings()
print(json.dumps({
    "persist": found.results.persist_by_default,
    "serializer": found.results.default_serializer,
    "csrf": found.server.api.csrf_protection_enabled,
    "analytics": found.server.analytics_enabled,
}))
"""


@pytest.mark.parametrize("name", MODULES)
def test_no_flow_and_no_task_persists_its_result(name):
    module = importlib.import_module(f"flows.{name}")
    ours = [each for each in vars(module).values() if isinstance(each, Flow | Task)]
    assert ours
    assert [each.name for each in ours if each.persist_result is not False] == []


def test_a_local_server_has_csrf_protection_and_no_analytics(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", _SETTINGS],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "PREFECT_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "persist": False,
        "serializer": "json",
        "csrf": True,
        "analytics": False,
    }


def raised(error: Exception, cause: Exception | None = None) -> Exception:
    try:
        raise error from cause
    except Exception as caught:
        return caught


@pytest.mark.parametrize(
    "error",
    [
        httpx.ConnectError("refused"),
        raised(RuntimeError("flow crashed"), httpx.ReadTimeout("slow")),
        ExceptionGroup("both", [ValueError("one"), httpx.RemoteProtocolError("gone")]),
    ],
    ids=["itself", "cause", "group"],
)
def test_an_unreachable_server_is_lost_once(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert is_server_lost(error)
    monkeypatch.setenv("STEPFOLD_SECOND_START", "1")
    assert not is_server_lost(error)


@pytest.mark.parametrize("error", [ValueError("ours"), raised(InfraError("Ray"), OSError("pipe"))])
def test_other_failures_are_not_a_lost_server(error: Exception) -> None:
    assert not is_server_lost(error)


_DRIVER = """
import sys
import flows.full_distillation
heavy = {"diffusers", "transformers", "deepspeed", "ray", "mlflow", "sklearn", "torchmetrics"}
heavy |= {"torch._dynamo", "prefect.server.api.server", "scipy.stats"}
print(sorted(heavy & set(sys.modules)))
"""


@pytest.mark.slow
def test_a_driver_imports_what_it_needs_when_it_needs_it():
    command = [sys.executable, "-c", _DRIVER]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


_SERVER = """
import os
from pathlib import Path
from flows.orchestration import settings
settings.set_defaults()
from flows.orchestration.server import configured_api_url, start_temporary_server, use_server
from prefect.client.orchestration import get_client
from prefect.settings import get_current_settings
server = start_temporary_server()
assert start_temporary_server() is server
server.wait(Path("here"))
with use_server(server):
    assert get_current_settings().api.url == server.api_url
    assert configured_api_url() is None
    with get_client(sync_client=True) as client:
        client.hello().raise_for_status()
assert get_current_settings().api.url is None
assert "PREFECT_API_URL" not in os.environ
print(server.process.pid)
"""


@pytest.mark.needs_ray
def test_a_temporary_server_serves_flows_and_ends_with_the_process(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", _SERVER],
        cwd=ROOT,
        env=environment(PREFECT_HOME=str(tmp_path)),
        capture_output=True,
        text=True,
        check=True,
    )
    assert not psutil.pid_exists(int(done.stdout.splitlines()[-1]))


def test_no_temporary_server_starts_beside_one_that_is_configured():
    url = "http://127.0.0.1:9/api"
    with temporary_settings({PREFECT_API_URL: url}):
        assert configured_api_url() == url
        assert start_temporary_server() is None
