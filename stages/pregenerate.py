"""Targets ahead of time: Ray workers ask the teacher, and every answer is kept.

One (data shard, pass) becomes one target shard; each is committed by itself, so an interrupted
stage redoes only what is missing. Chunk boundaries are fixed per shard and randomness belongs to
the tuple, so a redone shard has the same bytes.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from infra.launch import run_jobs
from infra.profile import Profile
from pipeline.config import Recipe
from pipeline.data.shards import DatasetInfo, read_info
from pipeline.errors import DataError, DivergenceError
from pipeline.ledger import Artifact, Ledger, fingerprint
from pipeline.training.plan import RoundPlan, round_key

CHUNK = 256

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
    """
    ledger = Ledger(run_dir)
    info = read_info(ledger.locate(data))
    round_fingerprint = round_key(plan, recipe, profile.engine.precision, data, teacher)
    jobs = _jobs(recipe, plan, info, round_fingerprint)
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
        for result in run_jobs("stages.pregenerate:open_worker", spec, missing, profile):
            artifact = Artifact.model_validate(result)
            done[artifact.fingerprint] = artifact
            progress(len(done), len(jobs))
    return tuple(done[job["key"]] for job in jobs)


def _jobs(
    recipe: Recipe, plan: RoundPlan, info: DatasetInfo, round_fingerprint: str
) -> list[dict[str, Any]]:
    split = info.splits["train"]
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


def open_worker(spec: dict[str, Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Runs once in every worker: load the teacher, then serve jobs.

    Heavy imports are here, so that the driver does not pay for them.
    """
    import numpy as np
    import torch

    from pipeline.data.records import write_records
    from pipeline.data.shards import SampleShards
    from pipeline.models.assemble import family_of, load_denoiser
    from pipeline.randomness import RowRandom
    from pipeline.training.assemble import method_of
    from pipeline.training.source import on_device, to_columns

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    plan = RoundPlan.model_validate(spec["plan"])
    manifest, teacher = load_denoiser(Path(spec["teacher"]), device)
    method = method_of(plan, family_of(manifest))
    samples = SampleShards(Path(spec["data"]), "train")
    ledger = Ledger(Path(spec["run_dir"]))
    dtype = getattr(torch, spec["dtype"])

    def chunks(job: dict[str, Any]) -> Iterator[dict[str, torch.Tensor]]:
        for start in range(0, job["count"], CHUNK):
            count = min(CHUNK, job["count"] - start)
            rows = np.arange(job["first"] + start, job["first"] + start + count)
            batch = samples.read(rows)
            random = RowRandom(plan.stream, job["first_tuple"] + start, count)
            draws = on_device(method.draw(teacher.schedule, batch, random), device)
            with torch.inference_mode():
                target = method.target(teacher, draws)
            if not bool(target.isfinite().all()):
                raise DivergenceError(
                    f"{plan.title}: the teacher's answers are not finite; check its bundle, "
                    "prediction type and schedule"
                )
            columns = to_columns(draws, target, dtype)
            tuples = torch.arange(count) + job["first_tuple"] + start
            yield {
                "tuple": tuples,
                "sample": torch.from_numpy(rows),
                **{name: column.cpu() for name, column in columns.items()},
            }

    def serve(job: dict[str, Any]) -> dict[str, Any]:
        def write(folder: Path) -> dict[str, Any]:
            return {"tuples": write_records(folder / "targets.tar", chunks(job))}

        artifact = ledger.publish("targets", job["key"], job["path"], write, tuple(spec["parents"]))
        return artifact.model_dump(mode="json")

    return serve
