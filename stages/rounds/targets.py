"""Target generation ahead of training, by Ray workers.

One (data shard, pass) becomes one target shard. Each is committed on its own, so an interrupted
stage repeats only what is missing. Chunk boundaries are fixed per shard and randomness belongs to
the tuple, so a repeated shard has the same bytes.
"""

from pathlib import Path
from typing import Any

from infra.launch import run_jobs
from pipeline.config import Recipe
from pipeline.data.latents import read_data_info
from pipeline.data.shards.dataset_info import SplitInfo
from pipeline.errors import DataError
from pipeline.ledger import Artifact, fingerprint
from pipeline.run_dir import layout
from pipeline.training.plan import round_key
from pipeline.training.round_plan import RoundPlan
from stages.rounds.teacher_check import check_teacher
from stages.workspace import UNOBSERVED, Observer, StageResult, Workspace

JOBS_AT_ONCE = 2
"""Shards per worker at a time: the teacher computes one while the disk writes the other."""


def pregenerate(
    work: Workspace,
    plan: RoundPlan,
    *,
    data: Artifact,
    teacher: Artifact,
    observer: Observer = UNOBSERVED,
) -> StageResult[tuple[Artifact, ...]]:
    """Compute the target shards of a round that are not committed yet; return all of them in order.

    Args:
        work: the run.
        plan: the round.
        data: the sharded data set.
        teacher: the bundle that computes the targets.
        observer: receives the number of shards.

    Raises:
        BundleError: the teacher is not the student of the previous round.
        DataError: the training split is empty.
        DivergenceError: the teacher's predictions are not finite.
    """
    check_teacher(work.run_dir, plan, teacher)
    plan, ledger, recipe = plan.targets_of, work.ledger, work.recipe
    splits = read_data_info(ledger.locate(data)).splits
    precision = work.profile.engine.precision
    round_fingerprint = round_key(plan, recipe, precision, data, teacher)
    jobs = shard_jobs(recipe, plan, splits["train"], round_fingerprint)
    done = {job["key"]: found for job in jobs if (found := ledger.find(job["key"]))}
    missing = [job for job in jobs if job["key"] not in done]
    if missing:
        with observer.working():
            observer.progress(len(done), len(jobs))
            spec = {
                "run_dir": str(work.run_dir),
                "plan": plan.model_dump(mode="json"),
                "data": str(ledger.locate(data)),
                "teacher": str(ledger.locate(teacher)),
                "parents": [data.fingerprint, teacher.fingerprint],
                "dtype": recipe.targets.dtype,
            }
            opener = "stages.rounds.target_worker:open_worker"
            for result in run_jobs(opener, spec, missing, work.profile, at_once=JOBS_AT_ONCE):
                artifact = Artifact.model_validate(result)
                done[artifact.fingerprint] = artifact
                observer.progress(len(done), len(jobs))
    return StageResult(tuple(done[job["key"]] for job in jobs), reused=not missing)


def shard_jobs(
    recipe: Recipe, plan: RoundPlan, split: SplitInfo, round_fingerprint: str
) -> list[dict[str, Any]]:
    """Return the job of `stages.rounds.target_worker` for each target shard of a round, in order.

    Raises:
        DataError: the training split is empty.
    """
    if split.count == 0:
        raise DataError("data: the training split is empty; add samples or lower data.holdout")
    passes = recipe.passes(plan.training, split.count)
    return [
        {
            "key": fingerprint({"round": round_fingerprint, "pass": number, "shard": shard.name}),
            "path": layout.target_shard_of(plan, number, index),
            "first": shard.first,
            "count": shard.count,
            "first_tuple": number * split.count + shard.first,
        }
        for number in range(passes)
        for index, shard in enumerate(split.shards)
    ]


def target_tar(run_dir: Path, artifact: Artifact) -> Path:
    """Return the path of a target shard's tar file."""
    return run_dir / artifact.path / layout.TARGETS_TAR
