"""Targets ahead of time: Ray workers ask the teacher, and every answer is kept.

One (data shard, pass) becomes one target shard; each is committed by itself, so an interrupted
stage redoes only what is missing. Chunk boundaries are fixed per shard and randomness belongs to
the tuple, so a redone shard has the same bytes.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from infra.launch import run_jobs
from pipeline.config import Recipe
from pipeline.config.profile import Profile
from pipeline.data.open_samples import read_content
from pipeline.data.shards.dataset_info import SplitInfo
from pipeline.errors import DataError
from pipeline.ledger import Artifact, Ledger, fingerprint
from pipeline.training.plan import round_key
from pipeline.training.round_plan import RoundPlan
from stages.rounds.teacher_check import check_teacher

JOBS_AT_ONCE = 2
"""Shards a worker has in hand: while the disk takes one, the teacher answers the next."""

Progress = Callable[[int, int], None]


def pregenerate(
    run_dir: Path,
    recipe: Recipe,
    profile: Profile,
    plan: RoundPlan,
    *,
    data: Artifact,
    teacher: Artifact,
    progress: Progress,
) -> tuple[Artifact, ...]:
    """The target shards of a round, in order; computes those that are not committed yet.

    Args:
        run_dir: the run directory, seen by every worker.
        recipe: what to run.
        profile: where to run it.
        plan: the round.
        data: the sharded data set.
        teacher: the bundle whose answers are the targets.
        progress: told (shards done, shards in all).

    Raises:
        BundleError: the teacher is not of the round before.
        DataError: there is nothing to compute targets for.
        DivergenceError: the teacher's answers are not finite.
    """
    check_teacher(run_dir, plan, teacher)
    plan, ledger = plan.targets_of, Ledger(run_dir)
    splits = read_content(ledger.locate(data)).splits
    round_fingerprint = round_key(plan, recipe, profile.engine.precision, data, teacher)
    jobs = shard_jobs(recipe, plan, splits["train"], round_fingerprint)
    done = {job["key"]: found for job in jobs if (found := ledger.find(job["key"]))}
    progress(len(done), len(jobs))
    missing = [job for job in jobs if job["key"] not in done]
    if missing:
        spec = {
            "run_dir": str(run_dir),
            "plan": plan.model_dump(mode="json"),
            "data": str(ledger.locate(data)),
            "teacher": str(ledger.locate(teacher)),
            "parents": [data.fingerprint, teacher.fingerprint],
            "dtype": recipe.targets.dtype,
        }
        opener = "stages.rounds.target_worker:open_worker"
        for result in run_jobs(opener, spec, missing, profile, at_once=JOBS_AT_ONCE):
            artifact = Artifact.model_validate(result)
            done[artifact.fingerprint] = artifact
            progress(len(done), len(jobs))
    return tuple(done[job["key"]] for job in jobs)


def shard_jobs(
    recipe: Recipe, plan: RoundPlan, split: SplitInfo, round_fingerprint: str
) -> list[dict[str, Any]]:
    """What `stages.rounds.target_worker` is told for each target shard of a round, in order.

    Raises:
        DataError: there is nothing to compute targets for.
    """
    if split.count == 0:
        raise DataError("the training split is empty; there is nothing to compute targets for")
    passes = recipe.passes(plan.training, split.count)
    return [
        {
            "key": fingerprint({"round": round_fingerprint, "pass": number, "shard": shard.name}),
            "path": f"{plan.folder}/targets/pass-{number:03d}-shard-{index:05d}",
            "first": shard.first,
            "count": shard.count,
            "first_tuple": number * split.count + shard.first,
        }
        for number in range(passes)
        for index, shard in enumerate(split.shards)
    ]


def target_tar(run_dir: Path, artifact: Artifact) -> Path:
    """The webdataset tar of a target shard."""
    return run_dir / artifact.path / "targets.tar"
