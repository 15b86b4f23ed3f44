"""A complete run with a bad round: extended without success, then approved manually."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from flows.orchestration.server import prefect_server
from flows.tracking.outbox import Outbox
from pipeline.ledger import Ledger
from tests.support.asking_prefect import ask
from tests.support.chain import INLINE, SMALLEST, finish, log_of
from tests.support.doors import free_port
from tests.support.page_reader import read_page
from tests.support.prefect_home import new_home
from tests.support.terminal import invoke

pytestmark = pytest.mark.needs_ray

OFF = "{relative_distance: off, rms: off, recall: off, effective_w: off}"
# 12 updates are far too few, and so are 3 more; the last round is checked for finite values only
GATE = (
    "gate={num_samples: 24, w: [1], rms: 0.1, on_fail: [extend, stop], "
    f"extend: {{share: 0.25, times: 1}}, rounds: {{halving: {OFF}}}}}"
)
SETS = [*INLINE, *SMALLEST, "--set", GATE]
ROUND = "round 0: guidance, any w in one evaluation"
OVER = f"{ROUND}, extended 1"
WHY = f"{OVER}: the student failed the gate after it was extended 1 time and was not promoted: "


def mlflow_of(run_dir: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{run_dir.parent / 'mlflow.db'}")


def rounds_in(run_dir: Path) -> dict[str, Any]:
    """The MLflow runs of all attempts at rounds, by name."""
    client = mlflow_of(run_dir)
    experiment = client.get_experiment_by_name("stepfold")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], "tags.kind = 'round'")
    return {run.info.run_name: run for run in found}


def registered(run_dir: Path) -> dict[str, dict[str, bytes]]:
    """Content at the source of every registered version, by version."""
    found = mlflow_of(run_dir).search_model_versions("name = 'gaussian'")
    return {version.version: contents(Path(version.source)) for version in found}


def contents(folder: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in folder.rglob("*") if each.is_file()}


@dataclass(frozen=True)
class Stopped:
    """A run that stopped at the gate, as it was before the approval."""

    run_dir: Path
    code: int
    flow_runs: dict[str, dict[str, Any]]
    status: str
    gates: dict[str, str]
    places: set[str]
    versions: list[Any]


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stopped]:
    home = tmp_path_factory.mktemp("gated")
    run_dir = home / "chain"
    with pytest.MonkeyPatch.context() as settings:
        settings.delenv("PREFECT_API_URL", raising=False)
        settings.setenv("PREFECT_HOME", new_home(home))
        with prefect_server(free_port(), home / "prefect.log") as found:
            code = finish(run_dir, sets=SETS)
            flow_runs = ask(found.api_url, "flow_runs/filter")
            yield Stopped(
                run_dir=run_dir,
                code=code,
                flow_runs={run["name"]: run["state"] for run in flow_runs},
                status=invoke("status", "--run-dir", str(run_dir))[1],
                gates={name: run.data.tags["gate"] for name, run in rounds_in(run_dir).items()},
                places={artifact.path for artifact in Ledger(run_dir).records()},
                versions=list(mlflow_of(run_dir).search_model_versions("name = 'gaussian'")),
            )


@pytest.fixture(scope="module")
def accepted(stopped: Stopped) -> Path:
    """The same run, approved and finished; MLflow was unreachable while the round trained."""
    run_dir = stopped.run_dir
    folders = ("rounds/00-guidance", "rounds/00-guidance-extended-1")
    notes = [f"{folder}/{what}" for folder in folders for what in ("metrics", "result")]
    (run_dir / "outbox.json").write_text(json.dumps(notes))
    code, output = invoke("approve", "--run-dir", str(run_dir))
    assert code == 0
    assert f"Approved {OVER} (failed: " in output
    assert os.environ["PREFECT_API_URL"]  # that of the fixture, still set
    assert finish(run_dir, sets=SETS) == 0, log_of(run_dir).read_text()[-3000:]
    return run_dir


def test_the_reason_is_in_the_log_prefect_mlflow_and_status(stopped: Stopped) -> None:
    log = " ".join(log_of(stopped.run_dir).read_text().split())
    assert stopped.code == 1, log[-3000:]
    assert WHY in log
    assert f"{ROUND}: failed: " in log
    for name in ("gaussian", ROUND):
        state = stopped.flow_runs[name]
        assert (state["type"], WHY in state["message"]) == ("FAILED", True)
    assert WHY in stopped.status
    assert f"✗ {ROUND} failed: " in stopped.status
    assert f"✗ {OVER} failed: " in stopped.status
    assert {name: text.rpartition("; ")[2] for name, text in stopped.gates.items()} == {
        "round 0: guidance": "training is extended",
        "round 0: guidance, extended 1": "the run stops",
    }


def test_the_failed_student_is_not_promoted(stopped: Stopped) -> None:
    assert stopped.versions == []
    made = {place for place in stopped.places if place.startswith("rounds/")}
    assert {place.rpartition("/")[2] for place in made if "/targets/" not in place} == {
        "candidate",
        "verdict",
    }


def test_an_approved_run_finishes_and_the_student_belongs_to_its_attempt(
    accepted: Path,
) -> None:
    assert Outbox(accepted).pending() == []
    client, rounds = mlflow_of(accepted), rounds_in(accepted)
    failed, over = rounds["round 0: guidance"], rounds["round 0: guidance, extended 1"]
    assert over.data.tags["gate"].endswith(", approved by a person")
    assert [run.info.status for run in rounds.values()] == ["FINISHED"] * 3
    version = client.get_model_version_by_alias("gaussian", "student-any-steps")
    assert version.run_id == over.info.run_id
    last = client.get_model_version_by_alias("gaussian", "teacher")
    assert last.run_id == rounds["round 1: 2 -> 1 steps"].info.run_id
    measured = "eval/distance_to_real_w1"
    assert measured in over.data.metrics
    assert measured not in failed.data.metrics
    assert (failed.data.params["updates"], over.data.params["updates"]) == ("12", "3")
    code, output = invoke("verify", str(accepted))
    assert code == 0, output


def test_the_report_shows_the_manual_approval(accepted: Path) -> None:
    text = read_page(accepted / "report/index.html").text
    assert OVER in text
    assert "by a person" in text
    assert f"{ROUND} failed" in text
    assert "round 1: 2 -> 1 steps passed" in text


@pytest.mark.parametrize("gate", ["looser", "none"])
def test_other_bounds_keep_the_promoted_students_and_train_nothing(
    accepted: Path, gate: str
) -> None:
    before = {a.path: a.digest for a in Ledger(accepted).records() if a.kind == "student"}
    runs = set(rounds_in(accepted))
    versions = registered(accepted)
    looser = GATE.replace("rms: 0.1", OFF[1:-1])
    sets = [*INLINE, *SMALLEST, *(("--set", looser) if gate == "looser" else ())]
    assert finish(accepted, "--accept-changes", sets=sets) == 0, log_of(accepted).read_text()[
        -3000:
    ]
    records = Ledger(accepted).records()
    assert {a.path: a.digest for a in records if a.kind == "student"} == before
    assert set(rounds_in(accepted)) == runs
    assert registered(accepted) == versions
    log = log_of(accepted).read_text()
    assert "passed ()" not in log
    assert "passed (weights are finite; no bound is on)" in log
