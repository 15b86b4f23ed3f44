"""A round with several attempts in a real MLflow store: each attempt has its own run."""

import json
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from flows.gate_wording import verdict_text
from flows.run import Attempt, CompletedRound, Run
from flows.tasks import register
from flows.tracking.round_tracking import deliver_pending, log_verdict
from infra.trackers.mlflow.tracker import MlflowTracker
from stages.chain import StageId, Step
from stages.gate.attempts import accept, find_attempt
from tests.support.gate_case import GateCase, gate_case

pytestmark = pytest.mark.slow

# a learning rate that diverges, then a good one
RETRIED = ("guidance.learning_rate=100", "gate.on_fail=retry", "gate.retry.factor=0.01")

ROUND = "round 0: guidance, any w in one evaluation"
PROMOTION = "rounds/00-guidance/promotion"
REMOVED = "rounds/09-2-to-1-extended-3"


def completed_round(case: GateCase) -> CompletedRound:
    outcome = case.run_attempts()
    first = find_attempt(case.context, case.plan)
    student = accept(case.run_dir, case.plan, outcome)
    attempts: tuple[Attempt, ...] = ((case.plan, first.student), (outcome.plan, student))
    return CompletedRound(case.plan, attempts)


def run_of(case: GateCase) -> Run:
    store = MlflowTracker(None, case.run_dir.parent, "stepfold")
    chain = store.start(str(case.run_dir), "gaussian", {}, {})
    path = str(case.run_dir)
    return Run(
        recipe=case.recipe,
        profile=case.context.work.profile,
        path=path,
        id="a" * 32,
        chain_id=chain,
    )


def queue(run: Run, *notes: str) -> None:
    """Write the outbox of a run whose MLflow server was unreachable."""
    (run.run_dir / "outbox.json").write_text(json.dumps(notes))


def rounds_in(run: Run) -> dict[str, Any]:
    client = MlflowClient(run.tracker.uri)
    found = client.search_runs([run.tracker.experiment_id], "tags.kind = 'round'")
    return {each.info.run_name: each for each in found}


def test_a_student_belongs_to_its_attempt_and_every_attempt_is_logged(tmp_path: Path) -> None:
    case = gate_case(tmp_path / "run", *RETRIED)
    done = completed_round(case)
    assert done.accepted.title == f"{ROUND}, retried 1"
    run = run_of(case)
    for plan, _ in done.attempts:
        step = Step(StageId.TRAIN, plan)
        with run.timing.measure(step.id, step.title):
            pass
        judged = find_attempt(case.context, plan).judged
        assert judged is not None
        log_verdict(run, plan, verdict_text(judged.verdict), judged.verdict.numbers)
    folders = [plan.folder for plan, student in done.attempts if student]
    queue(
        run,
        *(f"{plan.folder}/metrics" for plan, _ in done.attempts),
        *(f"{folder}/result" for folder in folders),
        PROMOTION,
        *(f"{REMOVED}/{what}" for what in ("metrics", "result")),
        "end of the run",
    )
    deliver_pending(run, [done])
    assert run.outbox.pending() == [PROMOTION, "end of the run"]
    client = MlflowClient(run.tracker.uri)
    # the run of the chain has results of accepted students only
    assert client.get_metric_history(run.chain_id, "chain/distil_s") == []
    register(run, done)
    assert len(client.get_metric_history(run.chain_id, "chain/distil_s")) == 1
    assert run.outbox.pending() == ["end of the run"]

    rounds = rounds_in(run)
    failed, passed = rounds["round 0: guidance"], rounds["round 0: guidance, retried 1"]
    assert len(rounds) == 2
    assert failed.data.tags["gate"].startswith("failed: ")
    assert passed.data.tags["gate"].startswith("passed (")
    assert (failed.info.status, passed.info.status) == ("FAILED", "FINISHED")
    assert passed.data.tags["bundle"] == "rounds/00-guidance/student"
    (version,) = client.search_model_versions("name = 'gaussian'")
    assert version.run_id == passed.info.run_id
    assert client.get_registered_model("gaussian").aliases == {
        "teacher": version.version,
        "student-any-steps": version.version,
    }
    losses = client.get_metric_history(passed.info.run_id, "train/loss")
    assert losses[-1].step == done.accepted.samples_seen
