"""The smallest chain: a process is killed at every failpoint of every stage, and it is resumed.

A chain is not run from its beginning for each: what a stage made is taken out of a finished run,
so that the run continues there. Everything is found by the digests of what it was made from, so if
the stage makes the same bytes again all that follows is found, and if not it is made anew and seen.
"""

import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from flows.cli.request import read_request
from infra.trackers.mlflow.tracker import default_uri
from pipeline.ledger import Ledger
from pipeline.run_dir.recipe_file import record_profile
from pipeline.run_dir.run_id import claim_id
from tests.faults.conftest import MakeRow
from tests.faults.kill_table import KILLED_IN_A_CHAIN, STAGES, ChainKill
from tests.support.chain import SMALLEST, digests, events, finish, log_of, report_of
from tests.support.terminal import GAUSSIAN

pytestmark = [pytest.mark.nightly, pytest.mark.needs_ray]

MADE_BY = {
    "data": {"data": ""},
    "teacher": {"teacher": ""},
    "targets": {"targets": "rounds/01", "student": "rounds/01"},
    "train": {"student": "rounds/01"},
    "promote": {"promotion": "rounds"},
    "evaluate": {"reference": "", "samples": "", "classifier": "", "report": ""},
}
"""Kinds and places of the artifacts without which a run goes back to a stage."""


def back_to(stage: str, undisturbed: Path, workspace: Path) -> Path:
    """Copy the finished run, without the results of a stage and later ones."""
    shutil.copytree(undisturbed.parent, workspace)
    run_dir = workspace / undisturbed.name
    (run_dir / "events.jsonl").unlink()
    shutil.rmtree(run_dir / "logs")
    # that run was in one process; with the profile on record, the first file written is the stage's
    request = read_request(GAUSSIAN, None, run_dir, SMALLEST[1::2])
    record_profile(request.profile, run_dir)
    claim_id(run_dir)  # a copy gets its own id
    if stage == "promote":  # no model is registered yet
        (workspace / "mlflow.db").unlink()
    ledger = Ledger(run_dir)
    for artifact in ledger.records():
        where = MADE_BY[stage].get(artifact.kind)
        if where is not None and artifact.path.startswith(where):
            ledger.forget(artifact)
    return run_dir


def when(run_dir: Path, kind: str, stage: str) -> list[float]:
    """Return the times of an event of a stage."""
    step = STAGES[stage]
    return [e["time"] for e in events(run_dir) if (e["kind"], e.get("stage")) == (kind, step)]


def last_commit(run_dir: Path) -> float:
    return max(record.stat().st_mtime for record in run_dir.rglob("ledger/*.json"))


def name_of(kill: ChainKill) -> str:
    return f"{kill.stage}-{kill.who}-{kill.point}-{kill.time}"


@pytest.mark.parametrize("kill", KILLED_IN_A_CHAIN, ids=name_of)
def test_killed_and_run_again_the_chain_ends_with_the_same_bytes(
    kill: ChainKill, undisturbed: Path, tmp_path: Path, fault_row: MakeRow
) -> None:
    run_dir = back_to(kill.stage, undisturbed, tmp_path / "workspace")
    row = fault_row("1", f"kill -9 of the {kill.who} at every failpoint", kill.stage)
    armed = f"{kill.point}=kill9@{kill.time}"
    code = finish(run_dir, *kill.extra, sets=SMALLEST, armed=armed)
    if kill.who == "driver":
        assert code == -signal.SIGKILL, log_of(run_dir).read_text()[-3000:]
        begun = when(run_dir, "stage_started", kill.stage)
        assert begun, "it was killed before the stage"
        assert not when(run_dir, "stage_done", kill.stage), "it was killed after the stage"
        row.lost = max(0.0, time.time() - max(begun[-1], last_commit(run_dir)))
    else:
        assert said_in_logs(run_dir, f"failpoint {kill.point}: kill9"), "no worker was killed"
    again = time.time()
    if code:
        assert finish(run_dir, sets=SMALLEST) == 0, log_of(run_dir).read_text()[-3000:]
    row.recovered_s = recovered(run_dir, undisturbed, kill.stage, again if code else None)
    row.outcome = "resumed"
    assert digests(run_dir) == digests(undisturbed)
    assert report_of(run_dir) == report_of(undisturbed)
    if kill.stage == "promote":
        assert_registered_once(run_dir)


def said_in_logs(run_dir: Path, text: str) -> bool:
    """Whether a process of the run, or of its Ray, logged a text."""
    files = [file for file in (run_dir / "logs").rglob("*") if file.is_file()]
    return any(text in file.read_text(errors="replace") for file in files)


def recovered(run_dir: Path, undisturbed: Path, stage: str, again: float | None) -> float:
    """Return the seconds from the second start to the end of the stage."""
    done = when(run_dir, "stage_done", stage)[-1]
    if again is not None:
        return done - again
    took: list[Any] = []
    for place in (run_dir, undisturbed):
        begun = when(place, "stage_started", stage)[0]
        took.append(when(place, "stage_done", stage)[-1] - begun)
    return max(0.0, took[0] - took[1])


def assert_registered_once(run_dir: Path) -> None:
    client = MlflowClient(default_uri(run_dir.parent))
    found = client.search_model_versions("name = 'gaussian'")
    versions = {version.tags["round"]: version.version for version in found}
    assert len(found) == len(versions) == 2
    assert client.get_registered_model("gaussian").aliases == {
        "student-any-steps": versions["0"],
        "student-1-steps": versions["1"],
        "teacher": versions["1"],
    }
