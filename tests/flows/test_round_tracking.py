"""A round's run in a real MLflow store after recipe changes: one run per training."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from flows.run import CompletedRound, Run
from flows.session import _teacher_origin
from flows.tracking.round_tracking import (
    deliver_pending,
    round_run_id,
    track_round,
    training_fingerprint,
)
from infra.trackers.mlflow.runs import SUPERSEDED
from infra.trackers.mlflow.tracker import MlflowTracker
from pipeline.config import Recipe
from pipeline.config.profile import Profile, TrackingConfig
from pipeline.ledger import Ledger
from pipeline.tracking import JsonlTracker
from pipeline.training.plan import plan_rounds
from stages.data.shard import shard
from stages.teacher.adopt import adopt
from stages.workspace import Workspace
from tests.support.small_run import make_run, make_student, small_recipe

pytestmark = pytest.mark.slow

OLD, NEW = small_recipe(), small_recipe("guidance.updates=7")
QUIET = Profile(tracking=TrackingConfig(pictures=0))
GUIDANCE = 0


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run with three finished rounds of the recipe `OLD`."""
    return run_of(make_run(tmp_path / "it's run"), OLD)


def run_of(run_dir: Path, recipe: Recipe) -> Run:
    store = MlflowTracker(None, run_dir.parent, "stepfold")
    chain = store.start(str(run_dir), "gaussian", {}, {})
    return Run(recipe=recipe, profile=QUIET, path=str(run_dir), id="a" * 32, chain_id=chain)


def client_of(run: Run) -> MlflowClient:
    return MlflowClient(run.tracker.uri)


def losses(run: Run, round_id: str) -> list[tuple[int, float]]:
    found = client_of(run).get_metric_history(round_id, "train/loss")
    return [(point.step, point.value) for point in found]


def train(run: Run, *losses_of_updates: float) -> str:
    """Write metrics like a worker that starts training; return the MLflow run that tracks them."""
    plan = plan_rounds(run.recipe)[GUIDANCE]
    metrics = run.run_dir / plan.folder / "metrics.jsonl"
    with track_round(run, plan):
        wait_for_the_forwarder(run)
        tracker = JsonlTracker(metrics, samples_seen=0)
        for update, loss in enumerate(losses_of_updates, 1):
            tracker.log({"train/loss": loss}, samples_seen=10 * update)
    return round_run_id(run, plan, is_training=False)


def wait_for_the_forwarder(run: Run) -> None:
    """Wait until it has opened the MLflow run and skipped the earlier content of the file."""
    deadline = time.monotonic() + 30
    while not running_rounds(run):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.3)


def running_rounds(run: Run) -> list[Any]:
    chosen = "tags.kind = 'round' and attributes.status = 'RUNNING'"
    return list(client_of(run).search_runs([run.tracker.experiment_id], chosen))


def redo_guidance(run: Run, recipe: Recipe) -> Run:
    """The run with another recipe, for which the first student is committed, too."""
    data = shard(Workspace(run.run_dir, recipe)).value
    teacher = adopt(Workspace(run.run_dir, recipe), data).value
    plan = plan_rounds(recipe)[GUIDANCE]
    # students are untrained; another parent in the manifest makes this a different bundle
    make_student(run.run_dir, recipe, plan, data, teacher, parent="ab" * 32)
    return run_of(run.run_dir, recipe)


def test_a_training_has_the_fingerprint_of_its_student(run: Run) -> None:
    placed = {each.path: each for each in Ledger(run.run_dir).records()}
    plans = plan_rounds(OLD)
    assert len(plans) == 3
    for plan in plans:
        assert training_fingerprint(run, plan) == placed[f"{plan.folder}/student"].fingerprint


def test_a_changed_round_gets_a_new_mlflow_run(run: Run) -> None:
    first = train(run, 9.0, 8.0, 7.0)
    assert train(run, 9.0, 8.0, 7.0, 6.0) == first
    assert losses(run, first) == [(10, 9.0), (20, 8.0), (30, 7.0), (40, 6.0)]
    changed = run_of(run.run_dir, NEW)
    second = train(changed, 3.0, 2.0)
    assert second != first
    assert losses(run, second) == [(10, 3.0), (20, 2.0)]
    assert len(losses(run, first)) == 4
    old = client_of(run).get_run(first)
    assert (old.data.tags[SUPERSEDED], old.info.status) == (second, "FINISHED")
    assert old.data.params["updates"] != "7"
    assert "changed.updates" not in old.data.tags
    assert client_of(run).get_run(second).data.params["updates"] == "7"


def test_a_round_with_another_teacher_gets_a_new_mlflow_run(run: Run) -> None:
    plan = plan_rounds(OLD)[1]
    assert plan == plan_rounds(NEW)[1]
    before = round_run_id(run, plan)
    changed = redo_guidance(run, NEW)
    after = round_run_id(changed, plan)
    assert after != before
    assert round_run_id(changed, plan, is_training=False) == after


def test_pending_updates_are_delivered_to_the_run_of_the_new_training(run: Run) -> None:
    first = train(run, 9.0, 8.0, 7.0)
    changed = redo_guidance(run, NEW)
    plan = plan_rounds(NEW)[GUIDANCE]
    student = next(
        each
        for each in reversed(Ledger(run.run_dir).records())
        if each.path == f"{plan.folder}/student"
    )
    # files written while MLflow was unreachable
    tracker = JsonlTracker(run.run_dir / plan.folder / "metrics.jsonl", samples_seen=0)
    tracker.log({"train/loss": 3.0}, samples_seen=10)
    notes = [f"{plan.folder}/metrics", f"{plan.folder}/result"]
    (run.run_dir / "outbox.json").write_text(json.dumps(notes))
    deliver_pending(changed, [CompletedRound(plan, ((plan, student),))])
    assert changed.outbox.pending() == []
    second = round_run_id(changed, plan, is_training=False)
    assert (losses(run, first)[0], losses(run, second)) == ((10, 9.0), [(10, 3.0)])
    tags = client_of(run).get_run(second).data.tags
    assert tags["bundle.digest"] == student.digest


@pytest.mark.parametrize(
    ("teacher", "origin"),
    [
        ({"train": {"updates": 5, "batch_size": 4, "learning_rate": 0.1}}, "trained in this run"),
        ({"bundle": "/teachers/digits"}, "/teachers/digits"),
        ({"pipeline": "/pipelines/sd"}, "/pipelines/sd"),
        ({}, "closed form"),
    ],
)
def test_the_origin_of_the_teacher_is_logged(teacher: dict[str, Any], origin: str) -> None:
    section = OLD.teacher.model_copy(update=teacher)
    assert _teacher_origin(OLD.model_copy(update={"teacher": section})) == origin
