"""A round that took several attempts, in a real MLflow store: each has what is its own."""

import json
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from flows.gate_wording import found
from flows.run import Attempt, MadeRound, Run
from flows.tasks import register
from flows.tracking.rounds import tell_missed, tell_verdict
from infra.mlflow.store import MlflowStore
from stages.gate.attempts import accept, look_up
from tests.support.gate_case import GateCase, gate_case

# too few updates, then enough; and a rate at which training breaks off, then a good one
EXTENDED = ("guidance.updates=20", "gate.on_fail=extend", "gate.extend.share=7")
RETRIED = ("guidance.learning_rate=100", "gate.on_fail=retry", "gate.retry.factor=0.01")

ROUND = "round 0: guidance, any w in one evaluation"
NO_PART = "round 9: 2 -> 1 steps, extended 3"


def made_by(case: GateCase) -> MadeRound:
    outcome = case.settle()
    first = look_up(case.setting, case.plan)
    assert first is not None
    student = accept(case.run_dir, case.plan, outcome)
    attempts: tuple[Attempt, ...] = ((case.plan, first.student), (outcome.plan, student))
    return MadeRound(case.plan, attempts)


def run_of(case: GateCase) -> Run:
    store = MlflowStore(None, case.run_dir.parent, "stepfold")
    chain = store.chain(str(case.run_dir), "gaussian", {}, {})
    path = str(case.run_dir)
    return Run(recipe=case.recipe, profile=case.setting.profile, path=path, chain_id=chain)


def owe(run: Run, *notes: str) -> None:
    """As MLflow would have left it that was away while rounds trained."""
    (run.run_dir / "owed.json").write_text(json.dumps(notes))


def rounds_in(run: Run) -> dict[str, Any]:
    client = MlflowClient(run.store.uri)
    found = client.search_runs([run.store.experiment_id], "tags.kind = 'round'")
    return {each.info.run_name: each for each in found}


@pytest.mark.parametrize(
    ("overrides", "over", "status"),
    [(EXTENDED, "extended 1", "FINISHED"), (RETRIED, "retried 1", "FAILED")],
)
def test_a_student_is_of_the_attempt_that_made_it_and_every_attempt_is_told(
    tmp_path: Path, overrides: tuple[str, ...], over: str, status: str
) -> None:
    case = gate_case(tmp_path / "run", *overrides)
    made = made_by(case)
    assert made.accepted.title == f"{ROUND}, {over}"
    run = run_of(case)
    for plan, _ in made.attempts:
        with run.timing.measure(f"{plan.title}, distil"):
            pass
        judged = look_up(case.setting, plan)
        assert judged is not None
        tell_verdict(run, plan, found(judged.verdict), judged.verdict.numbers)
    titles = [plan.title for plan, student in made.attempts if student]
    owe(
        run,
        *(f"{plan.title}: numbers" for plan, _ in made.attempts),
        *(f"{title}: result" for title in titles),
        f"{ROUND}: promotion",
        *(f"{NO_PART}: {what}" for what in ("numbers", "result")),
        "how the run ended",
    )
    tell_missed(run, [made])
    assert run.owed.all() == [f"{ROUND}: promotion", "how the run ended"]
    client = MlflowClient(run.store.uri)
    # the chain shows students that teach, and none that only tried
    assert client.get_metric_history(run.chain_id, "chain/distil_s") == []
    register(run, made)
    assert len(client.get_metric_history(run.chain_id, "chain/distil_s")) == 1
    assert run.owed.all() == ["how the run ended"]

    rounds = rounds_in(run)
    failed, passed = rounds["round 0: guidance"], rounds[f"round 0: guidance, {over}"]
    assert len(rounds) == 2
    assert failed.data.tags["gate"].startswith("failed: ")
    assert passed.data.tags["gate"].startswith("passed (")
    assert (failed.info.status, passed.info.status) == (status, "FINISHED")
    assert passed.data.tags["bundle"] == "rounds/00-guidance/student"
    (version,) = client.search_model_versions("name = 'gaussian'")
    assert version.run_id == passed.info.run_id
    assert client.get_registered_model("gaussian").aliases == {
        "teacher": version.version,
        "student-any-steps": version.version,
    }
    losses = client.get_metric_history(passed.info.run_id, "train/loss")
    assert losses[-1].step == made.accepted.samples_seen
