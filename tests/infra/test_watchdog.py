"""A process that hangs ends with its stacks in the log; one that works does not."""

import subprocess
import sys

import pytest

SCRIPT = """
import time
from infra import watchdog
watchdog._SHORTEST_S = watchdog._UNKNOWN_S = 1.0
guard = watchdog.Watchdog(active={active})
for _ in range(20):
    guard.updated()
    time.sleep(0.01)
{then}
"""


def run(then: str, *, active: bool = True) -> subprocess.CompletedProcess[str]:
    script = SCRIPT.format(active=active, then=then)
    return subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True
    )


def test_a_hang_ends_the_process_and_shows_where():
    done = run("def wait_for_peer():\n    time.sleep(60)\nwait_for_peer()")
    assert done.returncode == 1
    assert "Timeout" in done.stderr
    assert "in wait_for_peer" in done.stderr


@pytest.mark.parametrize("then", ["guard.stop(); time.sleep(1.5)", "guard.paused()"])
def test_work_that_is_not_an_update_is_left_alone(then):
    assert run(then).returncode == 0


def test_a_single_process_is_never_ended():
    assert run("time.sleep(1.5)", active=False).returncode == 0
