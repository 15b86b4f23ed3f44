"""Target generation ahead of training, by Ray workers.

One (data shard, pass) becomes one target shard. Each is committed on its own, so an interrupted
stage repeats only what is missing. Chunk boundaries are fixed per shard and randomness belongs to
the tuple, so a repeated shard has the same bytes.
"""

from pathlib import Path
from typing import Any

from infra.launch import run_jobs
from pipeline.bundle import read_manifest
from pipeline.data.latents import read_data_info
from pipeline.data.shards.dataset_info import SplitInfo
from pipeline.errors import BundleError, DataError
from pipeline.ledger import Artifact, Ledger, fingerprint
from pipeline.run_dir import layout
from pipeline.training.plan import round_key
from pipeline.training.round_plan import TEACHER_ROUND, RoundPlan
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
    jobs = shard_jobs(plan, splits["train"], round_fingerprint)
    done = ledger.find_all(job["key"] for job in jobs)
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
                "dtype": plan.targets.dtype,
            }
            opener = "stages.rounds.target_worker:open_worker"
            for result in run_jobs(opener, spec, missing, work.profile, at_once=JOBS_AT_ONCE):
                artifact = Artifact.model_validate(result)
                done[artifact.fingerprint] = artifact
                observer.progress(len(done), len(jobs))
    return StageResult(tuple(done[job["key"]] for job in jobs), reused=not missing)


def shard_jobs(plan: RoundPlan, split: SplitInfo, round_fingerprint: str) -> list[dict[str, Any]]:
    """Return the job of `stages.rounds.target_worker` for each target shard of a round, in order.

    Raises:
        DataError: the training split is empty.
    """
    if split.count == 0:
        raise DataError("data: the training split is empty; add samples or lower data.holdout")
    passes = plan.passes(split.count)
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


def check_teacher(run_dir: Path, plan: RoundPlan, teacher: Artifact) -> None:
    """Validate that a teacher is undamaged and belongs to this place in the chain.

    Raises:
        BundleError: its files changed since the commit, or its manifest names another round or
            teacher.
    """
    ledger = Ledger(run_dir)
    damage = ledger.damage(teacher)
    if damage:
        raise BundleError(f"{plan.title}: teacher is damaged, {damage}; run stepfold repair")
    manifest = read_manifest(ledger.locate(teacher))
    index = manifest.lineage.round
    found = f"a {manifest.role}" if index is None else f"the {manifest.role} of round {index}"
    is_first = plan.parent in (None, TEACHER_ROUND)
    expected = "a teacher" if is_first else f"the student of round {plan.parent}"
    # an adopted teacher has no round, or one of another run
    if (manifest.role == "teacher") != is_first or (not is_first and index != plan.parent):
        raise BundleError(
            f"{plan.title}: the manifest in {teacher.path} is of {found}, expected {expected}; "
            "run stepfold repair"
        )
    if is_first:
        return
    above = manifest.lineage.parent
    if above not in {artifact.digest for artifact in ledger.records()}:
        raise BundleError(
            f"{plan.title}: the manifest in {teacher.path} has the unknown parent "
            f"{str(above)[:12]}; run stepfold repair"
        )
