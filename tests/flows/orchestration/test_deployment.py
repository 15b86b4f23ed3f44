"""Schedules: a local server, cron, and a run that is killed and resumed."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import psutil
import pytest
from prefect import Flow
from ruamel.yaml import YAML

from flows.orchestration import server
from flows.orchestration.deployment import check_schedule
from flows.orchestration.server import check_port, child_process, is_up, wait_until_up
from flows.scheduled_distillation import HistoryEntry, ScheduleHistory
from pipeline.config import Recipe
from pipeline.config.profile import Profile
from pipeline.documents import build
from pipeline.errors import ConfigError, InfraError
from pipeline.run_dir.run_status import is_finished
from tests.support.chain import SMALLEST
from tests.support.doors import Watch, free_port
from tests.support.prefect_home import new_home
from tests.support.recipes import shipped_recipe
from tests.support.terminal import GAUSSIAN, ROOT, command, environment

PREFECT = ROOT / "infra" / "prefect" / "prefect.yaml"
CANARY = "canary-7f3a9c51"
SECRETS = {
    "AWS_SECRET_ACCESS_KEY": CANARY,
    "PGPASSWORD": CANARY,
    "MLFLOW_TRACKING_PASSWORD": CANARY,
    "STEPFOLD_DATABASE": f"postgresql://stepfold:{CANARY}@db.invalid/mlflow",
}
RAY = {"gcs_server", "raylet", "RayTrainWorker", "RuntimeEnvAgent"}


def holders_of(secret: str, folder: Path) -> list[str]:
    """Return the files below a folder that contain a secret."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [str(path) for path in files if secret.encode() in path.read_bytes()]


def readable_by_others(folder: Path) -> list[str]:
    """Return files and directories that another user could access."""
    found = [path for path in folder.rglob("*") if not path.is_symlink()]
    return [f"{path} {path.stat().st_mode:o}" for path in found if path.stat().st_mode & 0o077]


@contextmanager
def scheduled(
    root: Path, port: int, output: Path, profile: str
) -> Iterator[subprocess.Popen[bytes]]:
    options = ("--profile", str(ROOT / "infra/profiles" / profile))
    words = ["schedule", str(GAUSSIAN), "--cron", "* * * * *", "--root", str(root)]
    with output.open("ab") as sink:
        process = subprocess.Popen(
            command(*words, "--port", str(port), *options, *SMALLEST),
            cwd=root.parent,
            env=environment(PREFECT_HOME=new_home(root.parent), **SECRETS),
            stdout=sink,
            stderr=sink,
        )
    try:
        yield process
    finally:
        kill_tree(process)


def kill_tree(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and its children by SIGKILL, like a power failure."""
    try:
        family = [*psutil.Process(process.pid).children(recursive=True), process]
    except psutil.NoSuchProcess:
        return
    for member in family:
        member.kill()
    process.wait()


def wait_for_entry(
    history: ScheduleHistory,
    wanted: Callable[[HistoryEntry], bool],
    process: subprocess.Popen[bytes],
    output: Path,
) -> HistoryEntry:
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        for entry in history.read():
            if wanted(entry):
                return entry
            assert entry.outcome != "failed", entry.message
        assert process.poll() is None, output.read_text()
        time.sleep(0.2)
    raise AssertionError(f"no such entry: {history.read()}; {output.read_text()}")


@pytest.mark.needs_ray
@pytest.mark.parametrize(
    ("profile", "servers"),
    [
        ("inline.yaml", {"prefect server"}),
        pytest.param("laptop.yaml", {"prefect server", *RAY}, marks=pytest.mark.nightly),
    ],
)
def test_a_schedule_starts_a_run_and_resumes_it_after_a_kill(
    profile: str, servers: set[str], tmp_path: Path
) -> None:
    root, output, port = tmp_path / "runs", tmp_path / "output.txt", free_port()
    history = ScheduleHistory(root, "gaussian")
    with scheduled(root, port, output, profile) as process:
        begun = wait_for_entry(history, lambda entry: entry.outcome == "started", process, output)
        run_dir = Path(begun.run_dir)
        events = run_dir / "events.jsonl"
        while not (events.is_file() and events.stat().st_size):
            assert process.poll() is None, output.read_text()
            time.sleep(0.2)
    assert not is_finished(run_dir)
    with scheduled(root, port, output, profile) as process, Watch(process.pid) as watch:
        wait_for_entry(history, lambda entry: entry.outcome == "done", process, output)
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(timeout=120) == 0
    assert [entry.outcome for entry in history.read()][:3] == ["started", "resumed", "done"]
    assert {entry.run_dir for entry in history.read()[:3]} == {str(run_dir)}
    assert is_finished(run_dir)
    assert not is_up(f"http://127.0.0.1:{port}/api/health")
    assert "started by this command; stops with it" in output.read_text()
    # the same run from outside: open ports and leaked secrets
    assert watch.doors == set()
    assert {kind for kind in servers if any(kind in name for name in watch.names)} == servers
    assert holders_of(CANARY, tmp_path) == []
    assert readable_by_others(tmp_path / "runs") == []


def test_only_valid_times_are_accepted() -> None:
    recipe = shipped_recipe("gaussian")
    for cron, timezone in [("0 2 * * *", "UTC"), ("*/5 9-17 * * 1-5", "Europe/Berlin")]:
        check_schedule(recipe, cron, timezone)
    for cron in ("every night", "0 2 * *", "61 2 * * *"):
        with pytest.raises(ConfigError, match="five fields"):
            check_schedule(recipe, cron, "UTC")
    with pytest.raises(ConfigError, match="five fields"):
        check_schedule(recipe, "0 2 * * *", "Mars/Base")


def test_a_configured_server_that_is_down_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{free_port()}/api")
    with (
        pytest.raises(ConfigError, match="PREFECT_API_URL: "),
        server.prefect_server(4200, tmp_path / "log"),
    ):
        pytest.fail("the server is down")
    assert list(tmp_path.iterdir()) == []


def test_a_port_in_use_is_rejected() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match="--port"):
            check_port(taken.getsockname()[1])


def test_a_child_that_ends_early_is_reported_and_one_that_works_is_stopped(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with (
        pytest.raises(InfraError, match="ended with code 3"),
        child_process([command()[0], "-c", "print('no'); raise SystemExit(3)"], log) as process,
    ):
        wait_until_up(process, f"http://127.0.0.1:{free_port()}", 30, log)
    assert log.read_text() == "no\n"
    with child_process(["sleep", "600"], log) as process:
        assert process.poll() is None
    assert process.returncode == -signal.SIGTERM


def test_the_shipped_deployments_have_valid_recipes_and_profiles() -> None:
    content = YAML(typ="safe").load(PREFECT)
    deployments = {entry["name"]: entry for entry in content["deployments"]}
    digits = deployments["digits-nightly"]["parameters"]
    assert build(Recipe, digits["recipe"], "prefect.yaml") == shipped_recipe("digits")
    for entry in deployments.values():
        build(Profile, entry["parameters"]["profile"], "prefect.yaml")
        module, _, name = entry["entrypoint"].rpartition(".")
        assert isinstance(getattr(import_module(module), name), Flow)
        assert entry["concurrency_limit"]["limit"] == 1
