"""A driver dies where nobody looks: the server that outlives it notices, and tells people."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from flows.orchestration.server import prefect_server
from tests.faults.conftest import MakeRow
from tests.support.asking_prefect import ask
from tests.support.chain import KILLED, SMALLEST, TRAIN, start, wait_until_started
from tests.support.doors import free_port
from tests.support.receiver import receiver
from tests.support.terminal import command

pytestmark = [pytest.mark.nightly, pytest.mark.needs_ray]

BOUND_S = 180  # two minutes without a heartbeat, the server's rounds of looking, and the message


def test_people_are_told_of_a_driver_that_fell_silent(
    tmp_path: Path, fault_row: MakeRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = tmp_path / "chain"
    row = fault_row("2", "driver killed, its Prefect server lives on", "train")
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    log = tmp_path / "prefect.log"
    with receiver() as (address, heard), prefect_server(free_port(), log) as prefect:
        notify = command("notify", "custom-webhook/us", "--address-from", "ALERTS")
        subprocess.run(notify, env={**os.environ, "ALERTS": address}, check=True)
        process = start(run_dir, sets=SMALLEST)
        wait_until_started(process, run_dir, TRAIN)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        KILLED.append(process.pid)
        killed = time.monotonic()
        while len(heard) < 2:  # the first was the trial
            assert time.monotonic() < killed + BOUND_S, heard
            time.sleep(0.2)
        row.noticed_s = time.monotonic() - killed
        row.outcome, row.lost = "refused", "nothing: the same command goes on"
        runs = ask(prefect.api_url, "flow_runs/filter")
    whole = [run for run in runs if run["parent_task_run_id"] is None]
    assert [run["state_name"] for run in whole] == ["Crashed"]
    assert "Stepfold: gaussian crashed" in heard[1]["text"]
    assert "no heartbeat from the driver for 120 s" in heard[1]["text"]
