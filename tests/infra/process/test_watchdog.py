"""A process that hangs ends with its stacks in the log; one that works does not."""

import subprocess
import sys

import pytest

SCRIPT = """
import time
from infra.process import watchdog
watchdog._SHORTEST_S = watchdog._UNKNOWN_S = 1.0
guard = watchdog.Watchdog({world_size})
for _ in range(20):
    guard.updated()
    time.sleep(0.01)
{then}
"""


def run(then: str, *, world_size: int = 2) -> subprocess.CompletedProcess[str]:
    script = SCRIPT.format(world_size=world_size, then=then)
    return subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True
    )


def test_a_hang_ends_the_process_and_shows_where():
    done = run("def wait_for_peer():\n    time.sleep(60)\nwait_for_peer()")
    assert done.returncode == 1
    assert "Timeout" in done.stderr
    assert "in wait_for_peer" in done.stderr


PAUSED = "watchdog._UNKNOWN_S = 60.0; guard.paused(); time.sleep(1.5)"
LEFT = "with guard: guard.paused()\ntime.sleep(1.5)"


@pytest.mark.parametrize("then", ["guard.stop(); time.sleep(1.5)", PAUSED, LEFT])
def test_work_that_is_not_an_update_is_left_alone(then):
    assert run(then).returncode == 0


def test_a_single_process_is_never_ended():
    assert run("time.sleep(1.5)", world_size=1).returncode == 0


def test_the_timer_of_a_single_process_is_left_to_others():
    then = """
import faulthandler
faulthandler.dump_traceback_later(1.0, exit=True)
with guard:
    guard.updated()
time.sleep(60)
"""
    assert run(then, world_size=1).returncode == 1


WORKER = """
import time
import torch
from infra.process import watchdog
from infra.process.watchdog import WatchedEngine
from pipeline.training.engines import OptimiserPlan
from pipeline.training.engines import TorchEngine
watchdog._SHORTEST_S = watchdog._UNKNOWN_S = 1.0
with watchdog.Watchdog(2) as guard:
    plan = OptimiserPlan(learning_rate=0.1, total_updates=2, clip_norm=1.0)
    engine = WatchedEngine(TorchEngine(torch.nn.Linear(2, 1), plan), guard)
    engine.backward(engine.module(torch.ones(1, 2)).sum())
    engine.step()
    {then}
time.sleep({after})
"""


@pytest.mark.parametrize(
    ("then", "after", "code"),
    [
        ("time.sleep(60)", 0, 1),
        ("engine.full_weights(); time.sleep(1.5)", 0, 0),
        ("pass", 1.5, 0),
    ],
)
def test_a_worker_is_watched_from_its_first_update_to_its_last(then, after, code):
    script = WORKER.format(then=then, after=after)
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == code
