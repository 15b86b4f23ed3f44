"""The number of workers may change between rounds, but not within one."""

import json
import os
import socket
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pipeline.config import Recipe
from pipeline.config.profile import ComputeConfig, EngineConfig, Profile
from pipeline.errors import ConfigError
from pipeline.ledger import Artifact, Ledger
from pipeline.tracking import read_metrics
from pipeline.training.plan import plan_rounds, round_key
from pipeline.training.round_plan import RoundPlan
from stages.data.shard import shard
from stages.rounds.target_worker import TargetWorker
from stages.rounds.train import check_layout, discard_other_layouts, round_job, train
from stages.rounds.train_worker import train as train_on_worker
from stages.teacher.adopt import adopt
from stages.workspace import Workspace
from tests.support.small_run import flip, small_recipe

ROOT = Path(__file__).resolve().parents[3]
# all samples in one shard: two workers have to share it
RECIPE = (
    "data.num_samples=64",
    "data.shard_size=1000",
    "guidance={updates: 12, batch_size: 16}",
    "halving={steps: [4, 2, 1], updates: 12, batch_size: 16}",
)

TWO = ("ZeRO 1 on 1 worker(s)", "ZeRO 1 on 2 worker(s)")


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return small_recipe(*RECIPE)


def profile(workers: int, zero_stage: int = 1) -> Profile:
    return Profile(
        compute=ComputeConfig(workers=workers),
        engine=EngineConfig(zero_stage=zero_stage, log_every=1),  # type: ignore[arg-type]
    )


def chain(run_dir: Path, recipe: Recipe, workers: list[int]) -> list[Artifact]:
    """Train the students of all rounds, with the given numbers of workers, on stored targets."""
    data = shard(Workspace(run_dir, recipe)).value
    students = [adopt(Workspace(run_dir, recipe), data).value]
    for plan, count in zip(plan_rounds(recipe), workers, strict=True):
        students.append(distilled(run_dir, recipe, plan, count, data, students[-1]))
    return students[1:]


def distilled(
    run_dir: Path, recipe: Recipe, plan: RoundPlan, workers: int, data: Artifact, teacher: Artifact
) -> Artifact:
    key = round_key(plan, recipe, "float32", data, teacher)

    def write(folder: Path) -> dict[str, Any]:
        job = round_job(
            Workspace(run_dir, recipe, profile(workers)),
            plan,
            data=data,
            teacher=teacher,
            targets=[make_targets(run_dir, plan, data, teacher)],
        )
        Path(job["checkpoints"]).mkdir(parents=True)
        job["output"] = str(folder)
        if workers == 1:
            train_on_worker(job)  # a process group of one needs no process of its own
        else:
            run_ranks(job, workers)
        return {"student_steps": plan.student_steps}

    parents = (data.fingerprint, teacher.fingerprint)
    return Ledger(run_dir).publish("student", key, f"{plan.folder}/student", write, parents)


def make_targets(run_dir: Path, plan: RoundPlan, data: Artifact, teacher: Artifact) -> Artifact:
    spec = {
        "plan": plan.model_dump(mode="json"),
        "teacher": str(run_dir / teacher.path),
        "data": str(run_dir / data.path),
        "run_dir": str(run_dir),
        "parents": [],
        "dtype": "float32",
    }
    job = {"key": f"{plan.index}" * 64, "path": f"{plan.folder}/targets/one", "first": 0}
    done = TargetWorker(spec).serve(job | {"count": 48, "first_tuple": 0})
    return Artifact.model_validate(done)


def run_ranks(job: dict[str, Any], workers: int) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "WORLD_SIZE": str(workers),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.support.round_rank"],
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(workers)
    ]
    for rank in ranks:
        assert rank.stdin is not None
        rank.stdin.write(json.dumps(job))
        rank.stdin.close()
    for rank in ranks:
        assert rank.stderr is not None
        said = rank.stderr.read()
        assert rank.wait(timeout=120) == 0, said[-3000:]


@pytest.mark.needs_ray
@pytest.mark.nightly
def test_one_two_one_workers_see_the_same_samples_and_learn_the_same(
    recipe: Recipe, tmp_path: Path
) -> None:
    steady, elastic = tmp_path / "steady", tmp_path / "elastic"
    by_one = chain(steady, recipe, [1, 1, 1])
    by_both = chain(elastic, recipe, [1, 2, 1])
    for student in by_one:
        losses = [losses_of(run, student) for run in (steady, elastic)]
        assert len({round(loss, 7) for loss in losses[0]}) == 12
        # a loss is the mean over the very samples of an update: with others it would be another
        assert losses[1] == pytest.approx(losses[0], rel=1e-4)
        tables = [
            load_file(run / student.path / "gaussian/tables.safetensors")
            for run in (steady, elastic)
        ]
        for name, table in tables[0].items():
            torch.testing.assert_close(tables[1][name], table, rtol=1e-4, atol=1e-4)
    assert all(later.digest != earlier.digest for earlier, later in pairwise(by_both))


def losses_of(run_dir: Path, student: Artifact) -> list[float]:
    metrics = (run_dir / student.path).parent / "metrics.jsonl"
    return [line["train/loss"] for line in read_metrics(metrics)]


def interrupted(
    run_dir: Path, recipe: Recipe, *layouts: str
) -> tuple[RoundPlan, Artifact, Artifact]:
    """Train round 0 up to checkpoints of these layouts."""
    data = shard(Workspace(run_dir, recipe)).value
    teacher = adopt(Workspace(run_dir, recipe), data).value
    plan = plan_rounds(recipe)[0]
    ledger = Ledger(run_dir / plan.folder / "checkpoints")
    for number, layout in enumerate(layouts, start=1):
        details = {
            "update": 4 * number,
            "round": round_key(plan, recipe, "float32", data, teacher),
            "layout": layout,
        }

        def write(folder: Path, details: dict[str, Any] = details) -> dict[str, Any]:
            (folder / "state").write_bytes(b"state")
            return details

        ledger.publish("checkpoint", f"{number}" * 64, f"update-{4 * number:07d}", write)
    return plan, data, teacher


@pytest.mark.parametrize("now", [profile(1), profile(4), profile(2, zero_stage=3)])
def test_inside_a_round_another_layout_is_refused_with_the_way_out(
    recipe: Recipe, tmp_path: Path, now: Profile
) -> None:
    plan, data, teacher = interrupted(tmp_path, recipe, *TWO)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ConfigError) as refused:
        train(Workspace(tmp_path, recipe, now), plan, data=data, teacher=teacher, targets=None)
    said = str(refused.value)
    assert "checkpoint at update 8 was written by ZeRO 1 on 2 worker(s)" in said
    assert "--discard-checkpoints" in said
    assert sorted(tmp_path.rglob("*")) == before


def test_only_checkpoints_of_other_layouts_are_discarded(recipe: Recipe, tmp_path: Path) -> None:
    plan, *_ = interrupted(tmp_path, recipe, *TWO)
    assert discard_other_layouts(tmp_path, profile(1)) == 1
    left = Ledger(tmp_path / plan.folder / "checkpoints").records()
    assert [found.details["update"] for found in left] == [4]
    assert discard_other_layouts(tmp_path, profile(1)) == 0


def test_a_damaged_checkpoint_of_another_layout_is_no_reason_to_refuse(
    recipe: Recipe, tmp_path: Path
) -> None:
    plan, data, teacher = interrupted(tmp_path, recipe, *TWO)
    folder = tmp_path / plan.folder / "checkpoints"
    key = round_key(plan, recipe, "float32", data, teacher)
    with pytest.raises(ConfigError):
        check_layout(folder, key, profile(1), plan.title)
    flip(folder / "update-0000008" / "state")
    check_layout(folder, key, profile(1), plan.title)
    check_layout(folder, "another round", profile(4), plan.title)
    with pytest.raises(ConfigError, match="at update 4"):
        check_layout(folder, key, profile(4), plan.title)
