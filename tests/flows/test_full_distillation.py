"""The chain survives kill -9 of its driver wherever it falls, and ends with the same bytes."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from flows.identity import Identity
from flows.orphans import SERVER
from pipeline.ledger import Ledger
from tests.flows.terminal import invoke
from tests.small_run import flip

ROOT = Path(__file__).resolve().parent.parent.parent
TINY = [
    *("--set", "data.num_samples=512", "--set", "data.shard_size=96"),
    *("--set", "guidance.updates=240", "--set", "halving.updates=240"),
    *("--set", "guidance.batch_size=64", "--set", "halving.batch_size=64"),
    *("--set", "evaluation.num_samples=96", "--set", "engine.checkpoint_every=40"),
    *("--set", "engine.log_every=1", "--set", "targets.keep=all"),
]

KILLED: list[int] = []
SERVERS: list[Identity] = []


def start(run_dir: Path, *extra: str) -> subprocess.Popen[str]:
    command = [
        *(sys.executable, "-m", "flows.cli", "run", "flows/recipes/gaussian.yaml"),
        *("--run-dir", str(run_dir), *TINY, *extra),
    ]
    with (run_dir.parent / f"{run_dir.name}.log").open("a") as log:
        return subprocess.Popen(
            command, cwd=ROOT, stdout=log, stderr=log, text=True, start_new_session=True
        )


def finish(run_dir: Path, *extra: str) -> int:
    return start(run_dir, *extra).wait(timeout=600)


def kill_when(run_dir: Path, condition: Callable[[Path], bool]) -> None:
    process = start(run_dir)
    deadline = time.monotonic() + 900
    while not condition(run_dir):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline, "the run never came to the point of the kill"
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    KILLED.append(process.pid)
    server = json.loads((run_dir / SERVER).read_text())["server"]
    SERVERS.append(Identity.model_validate(server))


def committed(run_dir: Path, kind: str, folder: str = "") -> int:
    records = Ledger(run_dir).records() if (run_dir / "ledger").is_dir() else []
    return sum(a.kind == kind and a.path.startswith(folder) for a in records)


def has_checkpoint(folder: str) -> Callable[[Path], bool]:
    return lambda run_dir: any((run_dir / "rounds" / folder / "checkpoints/ledger").glob("*.json"))


def started(label: str) -> Callable[[Path], bool]:
    def condition(run_dir: Path) -> bool:
        events = run_dir / "events.jsonl"
        lines = events.read_text().splitlines() if events.is_file() else []
        return any("stage_started" in line and label in line for line in lines)

    return condition


def student_digests(run_dir: Path) -> dict[str, str]:
    return {a.path: a.digest for a in Ledger(run_dir).records() if a.kind == "student"}


@pytest.fixture(autouse=True, scope="module")
def orphans_end() -> Iterator[None]:
    """The embedded Prefect server of a killed driver lives on; end it with the tests."""
    yield
    for group in KILLED:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("whole") / "chain"
    assert finish(run_dir) == 0, (run_dir.parent / "chain.log").read_text()[-3000:]
    return run_dir


@pytest.mark.cluster
@pytest.mark.slow
def test_killed_in_four_places_ends_with_the_same_students(
    undisturbed: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "chain"
    kill_when(run_dir, lambda path: committed(path, "targets", "rounds/00-guidance") >= 2)
    kill_when(run_dir, has_checkpoint("00-guidance"))
    kill_when(run_dir, has_checkpoint("02-2-to-1"))
    kill_when(run_dir, started("round 2: 2 -> 1 steps, promote"))
    assert finish(run_dir) == 0, (tmp_path / "chain.log").read_text()[-3000:]
    # each run ended the Prefect server that the killed one before it had left
    assert [server.is_alive for server in SERVERS] == [False] * 4
    assert len({server.pid for server in SERVERS}) == 4
    assert student_digests(run_dir) == student_digests(undisturbed)
    first, second = (
        json.loads((d / "report/report.json").read_text()) for d in (run_dir, undisturbed)
    )
    assert first == second
    assert_no_duplicate_points(run_dir)


def assert_no_duplicate_points(run_dir: Path) -> None:
    client = MlflowClient(f"sqlite:///{run_dir.parent / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("stepfold")
    assert experiment is not None
    rounds = client.search_runs([experiment.experiment_id], "tags.kind = 'round'")
    assert sorted(run.data.params["round"] for run in rounds) == ["0", "1", "2"]
    for run in rounds:
        steps = [point.step for point in client.get_metric_history(run.info.run_id, "train/loss")]
        assert steps == [64 * update for update in range(1, 241)]
    versions = client.search_model_versions("name = 'gaussian'")
    assert len(versions) == 3


@pytest.mark.cluster
@pytest.mark.slow
def test_a_finished_chain_does_nothing_when_run_again(undisturbed: Path) -> None:
    before = {
        file: file.stat().st_mtime_ns for file in (undisturbed / "rounds").rglob("*.safetensors")
    }
    assert finish(undisturbed) == 0
    after = {
        file: file.stat().st_mtime_ns for file in (undisturbed / "rounds").rglob("*.safetensors")
    }
    assert before == after


@pytest.mark.cluster
@pytest.mark.slow
def test_a_repaired_chain_has_the_bytes_it_had(undisturbed: Path, tmp_path: Path) -> None:
    """Three damages at once: what is damaged is redone, and what was made from it stays."""
    run_dir = tmp_path / "chain"
    shutil.copytree(undisturbed, run_dir)
    before = {a.path: a for a in Ledger(run_dir).records()}
    made = {path: (run_dir / path).stat().st_mtime_ns for path in before if "rounds/" in path}
    flip(run_dir / "data/train/shard-00000.tar", 600)
    flip(run_dir / "rounds/00-guidance/student/gaussian/tables.safetensors")
    record = run_dir / "ledger" / f"{before['report'].fingerprint[:32]}.json"
    record.write_text("{")
    assert invoke("verify", str(run_dir))[0] == 1
    assert step("repair", run_dir) == 0
    assert invoke("verify", str(run_dir))[0] == 0
    after = {a.path: a for a in Ledger(run_dir).records()}
    assert after == before
    redone = [path for path in made if (run_dir / path).stat().st_mtime_ns != made[path]]
    assert redone == ["rounds/00-guidance/student"]


def step(asked: str, run_dir: Path) -> int:
    command = [sys.executable, "-m", "flows.cli", asked, str(run_dir)]
    return subprocess.run(command, cwd=ROOT, timeout=600, check=False).returncode


@pytest.mark.cluster
@pytest.mark.slow
def test_a_changed_recipe_keeps_the_rounds_before_the_change(undisturbed: Path) -> None:
    before = student_digests(undisturbed)
    longer = ("--set", "halving.updates=[240, 280]")
    assert finish(undisturbed, *longer) == 2  # refused with a diff
    assert student_digests(undisturbed) == before
    assert finish(undisturbed, *longer, "--accept-changes") == 0
    after = student_digests(undisturbed)
    assert [path for path in before if before[path] != after[path]] == ["rounds/02-2-to-1/student"]
