"""A hanging process exits with its stacks in the log; a working one does not."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.terminal import ROOT

FORKS = """
import json, os, sys, time, faulthandler
import torch
from infra.process import watchdog
from pipeline.training.engines import TorchEngine
from pipeline.training.ema_optimiser import OptimiserPlan
watchdog._SHORTEST_S = watchdog._UNKNOWN_S = 1.0
torch.set_num_threads(1)
def child(name, script):
    os.dup2(os.open(name, os.O_CREAT | os.O_WRONLY), 2)
    exec(script, globals())
    os._exit(0)
children = {}
for name, script in json.loads(sys.argv[1]).items():
    children[name] = os.fork() or child(name, script)
ends = {name: os.waitpid(pid, 0)[1] for name, pid in children.items()}
print(json.dumps({name: os.waitstatus_to_exitcode(end) for name, end in ends.items()}))
"""

UPDATES = """
guard = watchdog.Watchdog({world_size})
for _ in range(20):
    guard.updated()
    time.sleep(0.01)
{then}
"""

WORKER = """
with watchdog.Watchdog(2) as guard:
    plan = OptimiserPlan(learning_rate=0.1, total_updates=2, clip_norm=1.0)
    engine = watchdog.WatchedEngine(TorchEngine(torch.nn.Linear(2, 1), plan), guard)
    engine.backward(engine.module(torch.ones(1, 2)).sum())
    engine.step()
    {then}
time.sleep({after})
"""

HANG = "def wait_for_peer():\n    time.sleep(60)\nwait_for_peer()"
TIMER = "faulthandler.dump_traceback_later(1.0, exit=True)\nwith guard: guard.updated()\n"

CASES = {
    "hang": (1, UPDATES.format(world_size=2, then=HANG)),
    "stopped": (0, UPDATES.format(world_size=2, then="guard.stop(); time.sleep(1.5)")),
    "paused": (
        0,
        UPDATES.format(
            world_size=2, then="watchdog._UNKNOWN_S = 60.0; guard.paused(); time.sleep(1.5)"
        ),
    ),
    "left": (
        0,
        UPDATES.format(world_size=2, then="with guard: guard.paused()\ntime.sleep(1.5)"),
    ),
    "one process": (0, UPDATES.format(world_size=1, then="time.sleep(1.5)")),
    "another timer": (1, UPDATES.format(world_size=1, then=f"{TIMER}time.sleep(60)")),
    "worker hangs": (1, WORKER.format(then="time.sleep(60)", after=0)),
    "worker gathers": (
        0,
        WORKER.format(then="engine.full_weights(); time.sleep(1.5)", after=0),
    ),
    "worker is done": (0, WORKER.format(then="pass", after=1.5)),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All cases, each run in a process of its own: errors and exit codes."""
    folder = tmp_path_factory.mktemp("watched")
    scripts = json.dumps({name: script for name, (_, script) in CASES.items()})
    done = subprocess.run(
        [sys.executable, "-c", FORKS, scripts],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
        text=True,
        timeout=240,
    )
    (folder / "ends.json").write_text(done.stdout)
    return folder


@pytest.mark.parametrize("name", CASES)
@pytest.mark.slow
def test_only_a_process_that_hangs_is_ended(folder: Path, name: str) -> None:
    assert json.loads((folder / "ends.json").read_text())[name] == CASES[name][0]


def test_the_stacks_show_where_it_hung(folder: Path) -> None:
    stacks = (folder / "hang").read_text()
    assert "Timeout" in stacks
    assert "in wait_for_peer" in stacks
