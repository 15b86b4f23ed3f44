"""MLflow, Prefect or a database goes away in the middle of a round: the work does not notice."""

import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from mlflow import MlflowClient

from flows.orchestration.server import child_process, prefect_server, wait_until_up
from flows.tracking.outbox import Outbox
from infra.mlflow.pages import ui_command
from tests.faults.conftest import MakeRow
from tests.support.chain import (
    SMALLEST,
    TRAIN,
    digests,
    events,
    finish,
    log_of,
    result_of,
    start,
    wait_until_started,
)
from tests.support.doors import free_port

pytestmark = [pytest.mark.nightly, pytest.mark.needs_ray]


def kill_listener(port: int) -> None:
    """kill -9 whoever listens on a port."""
    listening = [c for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    (pid,) = {c.pid for c in listening if c.laddr.port == port}
    psutil.Process(pid).send_signal(signal.SIGKILL)


@contextmanager
def mlflow_server(folder: Path, port: int) -> Iterator[str]:
    store = {"MLFLOW_BACKEND_STORE_URI": f"sqlite:///{folder}/mlflow-server.db"}
    log = folder / "mlflow.log"
    with child_process(ui_command(folder / "artifacts", port), log, store) as process:
        wait_until_up(process, f"http://127.0.0.1:{port}/health", 180, log)
        yield f"http://127.0.0.1:{port}"


def test_mlflow_dies_in_a_round_and_is_told_later(
    undisturbed: Path, tmp_path: Path, fault_row: MakeRow
) -> None:
    run_dir, port = tmp_path / "chain", free_port()
    row = fault_row("7", "MLflow server killed, from a round on", "train, promote")
    with mlflow_server(tmp_path, port) as uri:
        tracked = [*SMALLEST, "--set", f"tracking.uri={uri}"]
        process = start(run_dir, sets=tracked)
        wait_until_started(process, run_dir, TRAIN)
        kill_listener(port)
        assert process.wait(timeout=900) == 0, log_of(run_dir).read_text()[-3000:]
    assert result_of(run_dir) == result_of(undisturbed)
    assert digests(run_dir, "promotion") == {}
    assert "publish" in Outbox(run_dir).pending()
    assert "MLflow was unreachable" in log_of(run_dir).read_text()
    began = time.monotonic()
    with mlflow_server(tmp_path, port) as uri:
        assert finish(run_dir, sets=tracked) == 0, log_of(run_dir).read_text()[-3000:]
        row.recovered_s = time.monotonic() - began
        row.outcome, row.lost = "resumed", "nothing"
        assert Outbox(run_dir).pending() == []
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


def test_prefect_dies_in_a_round_and_the_run_goes_on(
    undisturbed: Path, tmp_path: Path, fault_row: MakeRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir, port = tmp_path / "chain", free_port()
    row = fault_row("8", "Prefect server killed", "train")
    monkeypatch.delenv("PREFECT_API_URL")
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    with prefect_server(port, tmp_path / "prefect.log"):
        process = start(run_dir, sets=SMALLEST)
        wait_until_started(process, run_dir, TRAIN)
        kill_listener(port)
        killed = time.time()
        assert process.wait(timeout=900) == 0, log_of(run_dir).read_text()[-3000:]
    done = {e["stage"]: e["time"] for e in events(run_dir) if e["kind"] == "stage_done"}
    begun = [e["time"] for e in events(run_dir) if e["kind"] == "stage_started"]
    after = min(time for time in begun if time > done[TRAIN])
    row.noticed_s = after - max(killed, done[TRAIN])
    row.outcome, row.lost = "resumed", "nothing"
    assert "Prefect server is unreachable; restarting" in log_of(run_dir).read_text()
    assert result_of(run_dir) == result_of(undisturbed)


def test_a_database_locked_for_ten_seconds_costs_nothing(
    undisturbed: Path, tmp_path: Path, fault_row: MakeRow
) -> None:
    run_dir = tmp_path / "chain"
    row = fault_row("9", "MLflow's SQLite locked for 10 s", "train, promote")
    process = start(run_dir, sets=SMALLEST)
    wait_until_started(process, run_dir, TRAIN)
    database = sqlite3.connect(tmp_path / "mlflow.db", timeout=60, isolation_level=None)
    database.execute("BEGIN EXCLUSIVE")
    time.sleep(10)
    database.execute("ROLLBACK")
    database.close()
    assert process.wait(timeout=900) == 0, log_of(run_dir).read_text()[-3000:]
    row.outcome, row.lost = "resumed", "nothing"
    assert Outbox(run_dir).pending() == []
    assert result_of(run_dir) == result_of(undisturbed)
    assert sorted(digests(run_dir, "promotion")) == sorted(digests(undisturbed, "promotion"))
