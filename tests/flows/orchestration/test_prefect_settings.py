"""Settings of Prefect: no persisted results, no pickle, a protected local server."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from prefect import Flow, Task

ROOT = Path(__file__).resolve().parents[3]
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
