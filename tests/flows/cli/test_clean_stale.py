"""`stepfold clean --stale`: leftovers of a driver killed by SIGKILL are found and cleaned up."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import psutil
import pytest
from prefect.settings import PREFECT_HOME, temporary_settings

from flows.cli.clean import _mark_tracked_runs, clean_stale_runs
from flows.orchestration.cleanup import (
    DRIVER_VARIABLE,
    ROOT_VARIABLE,
    _is_dead,
    abandoned_servers,
    remove_leftovers,
)
from infra.ray.cluster import remove_dead_session
from infra.trackers.mlflow.tracker import MlflowTracker
from infra.tracking import charts_url, tracker_of
from pipeline.config.profile import Profile, TrackingConfig
from pipeline.documents import to_yaml
from pipeline.identity import Identity, from_tag, identify
from pipeline.ledger import lock_run_dir
from pipeline.run_dir.run_id import claim_id
from tests.support.prefect_home import new_home
from tests.support.small_run import make_run
from tests.support.terminal import GAUSSIAN, command, environment, invoke

# its command line has the word that an embedded Prefect server's has
SLEEPER = [sys.executable, "-c", "import time; time.sleep(300)"]
WORD = "prefect.server.api.server:create_app"


@contextmanager
def process(root: Path, *words: str, driver: Identity | None = None) -> Iterator[psutil.Process]:
    """A process that a driver started for a run in `root`."""
    signed = {DRIVER_VARIABLE: driver.tag, ROOT_VARIABLE: str(root)} if driver else {}
    with subprocess.Popen([*SLEEPER, *words], env={**os.environ, **signed}) as started:
        try:
            server = psutil.Process(started.pid)
            # between the closing of Popen's pipe and the end of execve, Linux shows no arguments
            while not server.cmdline() or not server.environ():
                time.sleep(0.01)
            yield server
        finally:
            started.kill()


def dead() -> Identity:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        return identify(psutil.Process(ended.pid))


class Flow:
    """The fields of a Prefect flow run that cleanup uses."""

    def __init__(self, parameters: dict[str, object], *tags: str) -> None:
        self.parameters = parameters
        self.tags = list(tags)


def test_a_process_is_known_by_number_and_start() -> None:
    me = identify()
    assert me.is_alive
    assert from_tag(me.tag) is not None
    assert from_tag(me.tag).is_alive  # type: ignore[union-attr]
    assert me.model_copy(update={"since_boot": me.since_boot - 60}).is_alive is False
    assert me.model_copy(update={"boot": "another"}).is_alive is False
    # the clock was set an hour ahead meanwhile: it is the same process
    assert me.model_copy(update={"started": me.started - 3600}).is_alive
    # on a machine without a boot id, the clock decides
    unsaid = me.model_copy(update={"boot": "", "since_boot": 0.0})
    assert from_tag(unsaid.tag) == unsaid.model_copy(update={"started": round(me.started, 2)})
    assert unsaid.is_alive
    assert unsaid.model_copy(update={"started": me.started - 60}).is_alive is False
    assert me.model_copy(update={"host": "elsewhere"}).is_alive is None
    assert dead().is_alive is False
    for word in ("", "nightly", "driver:", "driver:host:x:y", "driver:host:1"):
        assert from_tag(word) is None


def test_the_server_of_a_dead_driver_is_ended(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "removed"):
        with process(root, WORD, driver=dead()) as server:
            assert "Prefect server" in remove_leftovers(tmp_path / "run")[0]
            assert not server.is_running() or server.status() == psutil.STATUS_ZOMBIE
            assert server.pid not in [each.pid for each in abandoned_servers(tmp_path / "run")]


def test_the_server_of_a_dead_driver_of_other_runs_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with process(tmp_path / "other", WORD, driver=dead()) as server:
        remove_leftovers(tmp_path / "runs" / "run")
        assert server.is_running()


@pytest.mark.parametrize("whose", ["of one that lives", "of another machine", "of nobody"])
def test_the_server_of_anybody_else_is_left_alone(tmp_path: Path, whose: str) -> None:
    drivers = {
        "of one that lives": identify(),
        "of another machine": dead().model_copy(update={"host": "elsewhere"}),
        "of nobody": None,
    }
    with process(tmp_path, WORD, driver=drivers[whose]) as server:
        remove_leftovers(tmp_path / "run")
        assert server.is_running()


def test_another_process_of_a_dead_driver_is_left_alone(tmp_path: Path) -> None:
    with process(tmp_path, driver=dead()) as other:
        remove_leftovers(tmp_path / "run")
        assert other.is_running()


def test_a_tag_that_is_none_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DRIVER_VARIABLE, "driver:here:one:two")
    with process(tmp_path, WORD) as server:
        remove_leftovers(tmp_path / "run")
        assert server.is_running()


def test_rays_folder_of_a_dead_driver_goes_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/tmp")
    folder = Path("/tmp") / f"sf-test{os.getpid()}"
    logs = folder / "session_1" / "logs"
    logs.mkdir(parents=True)
    (tmp_path / "logs").mkdir()
    link = tmp_path / "logs" / "ray"
    link.symlink_to(logs)
    assert remove_dead_session(tmp_path / "logs")
    assert not folder.exists()
    assert not link.is_symlink()
    precious = tmp_path / "sf-precious" / "session" / "logs"
    precious.mkdir(parents=True)
    link.symlink_to(precious)  # not where we make such folders
    assert not remove_dead_session(tmp_path / "logs")
    assert precious.exists()


def test_a_flow_run_is_dead_if_it_is_of_this_run_and_its_driver_is_gone() -> None:
    here = Path("/runs/a")
    by_dir: dict[str, object] = {"run_dir": "/runs/a"}
    recipe = {"run": {"name": "a"}}
    for parameters in (
        by_dir,
        {"run": {"path": "/runs/a"}},
        {"run_dir": "", "recipe": recipe, "profile": {"storage": {"root": "/runs"}}},
    ):
        assert _is_dead(Flow(parameters), here)
    assert _is_dead(Flow(by_dir, "nightly", dead().tag), here)
    assert not _is_dead(Flow(by_dir, identify().tag), here)
    elsewhere = identify().model_copy(update={"host": "elsewhere"})
    assert not _is_dead(Flow(by_dir, elsewhere.tag), here)
    for parameters in ({"run_dir": "/runs/b"}, {"run": {"path": "/runs/a/b"}}, {}, {"recipe": 1}):
        assert not _is_dead(Flow(parameters), here)


def test_a_flow_run_of_a_moved_run_is_found_by_its_id_and_by_its_old_path(tmp_path: Path) -> None:
    old, moved = tmp_path / "old", tmp_path / "moved"
    old.mkdir()
    run_id = claim_id(old)
    of_flow, of_round = {"run_dir": str(old)}, {"run": {"path": str(old), "id": run_id}}
    for parameters in (of_flow, of_round):
        assert _is_dead(Flow(parameters), old)
    copied = Path(shutil.copytree(old, tmp_path / "copied"))
    for parameters in (of_flow, of_round):
        assert not _is_dead(Flow(parameters), copied)
    old.rename(moved)
    for parameters in (of_flow, of_round):
        assert _is_dead(Flow(parameters), moved)
    old.mkdir()  # another run has the path now
    assert not _is_dead(Flow(of_flow), moved)
    assert _is_dead(Flow(of_round), moved)


@pytest.mark.parametrize("kind", ["mlflow", "tensorboard"])
def test_the_history_of_a_moved_run_is_found_and_a_copy_has_none(
    tmp_path: Path, kind: Literal["mlflow", "tensorboard"]
) -> None:
    config = TrackingConfig(kind=kind)
    tracker, run_dir = tracker_of(config, tmp_path), make_run(tmp_path / "it's run")
    (run_dir / "profile.yaml").write_text(to_yaml(Profile(tracking=config)))
    run_id = claim_id(run_dir)
    chain = tracker.start(run_id, "gaussian", {}, {})
    tracker.start(f"{run_id}/rounds/00-guidance", "round 0", {}, {}, parent=chain)
    copied = Path(shutil.copytree(run_dir, tmp_path / "copied"))
    moved = run_dir.rename(tmp_path / "moved")
    run_dir.symlink_to(moved)  # the recorded path still leads to it
    page = charts_url(config, moved)
    assert page
    assert quote(chain.removesuffix("/chain"), safe="") in page
    assert page != charts_url(config, copied)
    assert _mark_tracked_runs(copied) == ""
    assert "2 " in _mark_tracked_runs(moved)
    assert tracker.start(claim_id(moved), "gaussian", {}, {}) == chain
    assert tracker.start(claim_id(copied), "gaussian", {}, {}) != chain


def test_runs_of_mlflow_left_running_are_ended_and_others_are_not(tmp_path: Path) -> None:
    store = MlflowTracker(None, tmp_path, "stepfold")
    chain = store.start(str(tmp_path / "run"), "run", {}, {})
    store.start(f"{tmp_path}/run/rounds/00-guidance", "round 0", {}, {}, parent=chain)
    done = store.start(f"{tmp_path}/run/rounds/01-4-to-2", "round 1", {}, {}, parent=chain)
    store.finish(done, "FINISHED")
    other = store.start(str(tmp_path / "run2"), "run2", {}, {})
    assert store.end_stale_runs(str(tmp_path / "run")) == 2
    assert store.end_stale_runs(str(tmp_path / "run")) == 0
    states = {run: store._client.get_run(run).info.status for run in (chain, done, other)}
    assert states == {chain: "KILLED", done: "FINISHED", other: "RUNNING"}


@pytest.fixture
def no_prefect(tmp_path: Path) -> Iterator[None]:
    """A Prefect home without a database, whatever settings Prefect read before."""
    with temporary_settings(updates={PREFECT_HOME: tmp_path / "prefect"}):
        yield


@pytest.mark.usefixtures("no_prefect")
def test_every_run_is_cleaned_up_but_those_in_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    runs = tmp_path / "runs"
    free, busy = make_run(runs / "free"), make_run(runs / "busy")
    for run_dir in (free, busy):
        (run_dir / "rounds" / ".student.0.tmp").mkdir()
        (run_dir / "ledger" / ".0123.json.ab.tmp").write_text('{"kind": "stu')
        (run_dir / "rounds" / "02-2-to-1" / "checkpoints" / ".staging-a").mkdir(parents=True)
    with lock_run_dir(busy):
        planned = {each.run_dir.name: each for each in clean_stale_runs(runs, dry_run=True)}
        assert len([*free.rglob(".s*"), *free.rglob(".*.tmp")]) == 4
        by_name = {each.run_dir.name: each for each in clean_stale_runs(runs)}
        assert invoke("clean", "--stale", "runs/busy")[0] == 2
    assert planned["free"].done == ("3 pieces of debris to remove (13 B)",)
    assert by_name["free"].done == ("3 pieces of debris removed (13 B)",)
    assert str(os.getpid()) in by_name["busy"].left[0]
    left = {run: [*run.rglob(".s*"), *run.rglob(".*.tmp")] for run in (free, busy)}
    assert left[free] == []
    assert len(left[busy]) == 4
    code, output = invoke("clean", "--stale", "runs/free")
    assert (code, "nothing to clean up" in output) == (0, True)
    assert invoke("clean", "--stale", "prefect")[0] == 2


@pytest.mark.usefixtures("no_prefect")
def test_a_link_to_a_run_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_dir = make_run(tmp_path / "elsewhere" / "run")
    debris = run_dir / "rounds" / ".student.0.tmp"
    debris.mkdir()
    Path("runs").mkdir()
    Path("runs/link").symlink_to(run_dir)
    (left,) = clean_stale_runs(Path("runs").absolute())
    assert "link" in left.left[0]
    assert invoke("clean", "--stale", "runs/link")[0] == 2
    assert debris.exists()


def has_server(driver: int) -> bool:
    """Whether a driver has started to launch its Prefect server."""
    with contextlib.suppress(psutil.Error):
        return any(WORD in child.cmdline() for child in psutil.Process(driver).children())
    return False


def server_of(driver: int, run_dir: Path) -> Identity | None:
    """The Prefect server of a dead driver."""
    for each in abandoned_servers(run_dir):
        if f":{driver}:" in each.environ()[DRIVER_VARIABLE]:
            return identify(each)
    return None


def cleaned(run_dir: Path, home: dict[str, str]) -> str:
    """The output of `stepfold clean --stale` for a run."""
    done = subprocess.run(
        command("clean", "--stale", str(run_dir)),
        cwd=run_dir.parent,
        env=home,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return " ".join(done.stdout.split())


@pytest.mark.needs_ray
@pytest.mark.nightly
def test_leftovers_of_a_killed_driver_are_cleaned_up(tmp_path: Path) -> None:
    home = environment(PREFECT_HOME=new_home(tmp_path))
    run_dir = tmp_path / "chain"
    words = command("run", str(GAUSSIAN), "--run-dir", str(run_dir))
    with subprocess.Popen(words, cwd=tmp_path, env=home, stdout=subprocess.DEVNULL) as driver:
        while "00-guidance/targets" not in _events(run_dir):
            assert driver.poll() is None
            time.sleep(0.2)
        driver.send_signal(signal.SIGKILL)
    server = server_of(driver.pid, run_dir)
    folder = (run_dir / "logs" / "ray").readlink().parents[1]
    assert server is not None
    assert folder.is_dir()
    output = cleaned(run_dir, home)
    assert "Prefect server stopped, 1 Ray folder removed" in output
    assert "1 MLflow run marked as killed, 2 flow runs marked as crashed" in output
    assert server.is_alive is False
    assert not folder.exists()


@pytest.mark.needs_ray
@pytest.mark.nightly
def test_a_server_that_starts_while_its_driver_is_killed_is_ended(tmp_path: Path) -> None:
    home = environment(PREFECT_HOME=new_home(tmp_path))
    run_dir = tmp_path / "chain"
    words = command("run", str(GAUSSIAN), "--run-dir", str(run_dir))
    with subprocess.Popen(words, cwd=tmp_path, env=home, stdout=subprocess.DEVNULL) as driver:
        while not has_server(driver.pid):
            assert driver.poll() is None
            time.sleep(0.01)
        driver.send_signal(signal.SIGKILL)
    server = server_of(driver.pid, run_dir)
    assert server is not None
    assert "Prefect server" in cleaned(run_dir, home)
    assert server.is_alive is False


def _events(run_dir: Path) -> str:
    path = run_dir / "events.jsonl"
    return path.read_text() if path.is_file() else ""
