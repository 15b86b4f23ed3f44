"""What Prefect keeps of a run: names and states, no results and no pickles."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from prefect import Flow, Task

ROOT = Path(__file__).resolve().parents[3]
MODULES = ("full_distillation", "latent_tasks", "scheduled", "tasks", "train_teacher")

_SETTINGS = """
import json
from flows import environment
environment.settle()
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


def test_a_server_started_here_takes_no_orders_from_other_pages_and_tells_nobody(tmp_path):
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
