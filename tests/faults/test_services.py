"""MLflow, Prefect or a database fails during a round; a driver is killed and its server survives.

The first three do not affect the run; the last is reported.
"""

import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from mlflow import MlflowClient

from flows.orchestration.server import child_process, prefect_server, wait_until_up
from flows.tracking.outbox import Outbox
from infra.trackers.mlflow.tracker import ui_command
from tests.faults.conftest import DisturbedChain, MakeRow
from tests.support.asking_prefect import ask
from tests.support.chain import KILLED, SMALLEST, TRAIN, digests, events, start, wait_until_started
from tests.support.doors import free_port
from tests.support.prefect_home import new_home
from tests.support.receiver import receiver
from tests.support.terminal import command

pytestmark = [pytest.mark.needs_ray, pytest.mark.nightly]

BOUND_S = 180  # two minutes without a heartbeat, the server's rounds of looking, and the message


def kill_listener(port: int) -> None:
    """kill -9 the process that listens on a port."""
    listening = [c for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    (pid,) = {c.pid for c in listening if c.laddr.port == port}
    psutil.Process(pid).send_signal(signal.SIGKILL)


@contextmanager
def mlflow_server(folder: Path, port: int) -> Iterator[str]:
    serve, environment = ui_command(None, folder, port)
    store = {**environment, "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{folder}/mlflow-server.db"}
    log = folder / "mlflow.log"
    with child_process(serve, log, store) as process:
        wait_until_up(process, f"http://127.0.0.1:{port}/health", 180, log)
        yield f"http://127.0.0.1:{port}"


def test_mlflow_dies_in_a_round_and_is_updated_later(
    chain: DisturbedChain, tmp_path: Path, fault_row: MakeRow
) -> None:
    port = free_port()
    row = fault_row("7", "MLflow server killed, from a round on", "train, promote")
    with mlflow_server(tmp_path, port) as uri:
        tracked = [*SMALLEST, "--set", f"tracking.uri={uri}"]
        process = chain.start(TRAIN, sets=tracked)
        kill_listener(port)
        chain.check_exit(process)
    chain.check_result()
    assert digests(chain.run_dir, "promotion") == {}
    assert "publish" in Outbox(chain.run_dir).pending()
    assert "tracker was unreachable" in chain.log
    with mlflow_server(tmp_path, port) as uri:
        row.recovered_s = chain.finish(sets=tracked)
        row.outcome, row.lost = "resumed", "nothing"
        assert Outbox(chain.run_dir).pending() == []
        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name("stepfold")
        assert experiment is not None
        rounds = client.search_runs([experiment.experiment_id], "tags.kind = 'round'")
        assert [each.info.status for each in rounds] == ["FINISHED"] * 2
        for each in rounds:
            points = client.get_metric_history(each.info.run_id, "train/loss")
            assert [point.step for point in points] == [32 * update for update in (4, 8, 12)]
        aliases = client.get_registered_model("gaussian").aliases  # a server gives them as text
        versions = {name: int(version) for name, version in aliases.items()}
        assert versions == {"student-any-steps": 1, "student-1-steps": 2, "teacher": 2}


def test_prefect_dies_in_a_round_and_the_run_continues(
    chain: DisturbedChain, tmp_path: Path, fault_row: MakeRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    row = fault_row("8", "Prefect server killed", "train")
    monkeypatch.delenv("PREFECT_API_URL")
    monkeypatch.setenv("PREFECT_HOME", new_home(tmp_path))
    with prefect_server(port, tmp_path / "prefect.log"):
        process = chain.start(TRAIN)
        kill_listener(port)
        killed = time.time()
        chain.check_exit(process)
    told = events(chain.run_dir)
    done = {e["stage"]: e["time"] for e in told if e["kind"] == "stage_done"}
    begun = [e["time"] for e in told if e["kind"] == "stage_started"]
    row.noticed_s = min(time for time in begun if time > done[TRAIN]) - max(killed, done[TRAIN])
    row.outcome, row.lost = "resumed", "nothing"
    assert "Prefect server is unreachable; restarting" in chain.log
    chain.check_result()


def test_a_database_locked_for_ten_seconds_costs_nothing(
    chain: DisturbedChain, tmp_path: Path, fault_row: MakeRow
) -> None:
    row = fault_row("9", "MLflow's SQLite locked for 10 s", "train, promote")
    process = chain.start(TRAIN)
    database = sqlite3.connect(tmp_path / "mlflow.db", timeout=60, isolation_level=None)
    database.execute("BEGIN EXCLUSIVE")
    time.sleep(10)
    database.execute("ROLLBACK")
    database.close()
    chain.check_exit(process)
    row.outcome, row.lost = "resumed", "nothing"
    assert Outbox(chain.run_dir).pending() == []
    chain.check_result()
    assert sorted(digests(chain.run_dir, "promotion")) == sorted(
        digests(chain.undisturbed, "promotion")
    )


def test_people_are_notified_of_a_driver_that_was_killed(
    tmp_path: Path, fault_row: MakeRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = tmp_path / "chain"
    row = fault_row("2", "driver killed, its Prefect server lives on", "train")
    monkeypatch.setenv("PREFECT_HOME", new_home(tmp_path))
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
        row.outcome, row.lost = "refused", "nothing: the same command resumes"
        runs = ask(prefect.api_url, "flow_runs/filter")
    whole = [run for run in runs if run["parent_task_run_id"] is None]
    assert [run["state_name"] for run in whole] == ["Crashed"]
    assert "Stepfold: gaussian crashed" in heard[1]["text"]
    assert "no heartbeat from the driver for 120 s" in heard[1]["text"]
