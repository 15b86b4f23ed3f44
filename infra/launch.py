"""The two ways work reaches workers: independent jobs on a pool, and one fit on all of them.

Work is named ("module:function") and described in JSON and paths; no object of ours is pickled.
Both need Ray up: call them inside `infra.ray.cluster.cluster`. With `compute.launcher: inline` they
run in this process instead, see `infra.inline`.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from infra import inline
from infra.process.signals import interruptible
from infra.ray.actor_pool import ActorPool
from infra.ray.worker import tail, train_loop
from pipeline.config.profile import ComputeConfig, Profile
from pipeline.errors import InfraError


def run_jobs(
    factory: str,
    spec: dict[str, Any],
    jobs: Sequence[dict[str, Any]],
    profile: Profile,
    *,
    at_once: int = 1,
) -> Iterator[dict[str, Any]]:
    """Do independent jobs on `profile.compute.workers` actors; yields results as they finish.

    Every actor calls `factory(spec)` once and the function it returns once a job. Jobs of an actor
    that died, or has not answered for `compute.hang_timeout_s`, are done again, so they must be
    idempotent. With `compute.launcher: inline` jobs run in order in this process, `at_once` has no
    effect, and none is done again.

    Args:
        factory: "module:function", importable in the workers.
        spec: JSON for the factory.
        jobs: JSON for each job.
        profile: where to run.
        at_once: jobs that an actor works on at the same time, each in a thread. More than one pays
            where a job waits for a disk; the function must then keep its computing apart itself.

    Raises:
        StepfoldError: what a job raised on purpose, as itself.
        InfraError: a job failed otherwise (with its traceback's end), or lost its worker more than
            `compute.max_restarts` times, or no worker starts.
    """
    if profile.compute.launcher == "inline":
        yield from inline.run_jobs(factory, spec, jobs, profile.compute)
        return
    pool = ActorPool(factory, spec, profile.compute, at_once)
    try:
        with interruptible():
            yield from pool.run(jobs)
    finally:
        pool.close()


def fit(entry: str, job: dict[str, Any], profile: Profile, name: str, storage: Path) -> None:
    """Call `entry` on every worker of one `ray.train` fit, in fresh processes with a process group.

    A worker that dies, does not answer for `compute.hang_timeout_s`, or fails by accident, has the
    whole group started again; `entry` then continues from its own checkpoint. That ends after
    `compute.max_restarts` times between which no new checkpoint came into the ledger of
    `job["checkpoints"]`, if there is such a folder. With `compute.launcher: inline` this process is
    the only rank, and no failure is followed by another attempt.

    Args:
        entry: "module:function", importable in the workers; called with `job`.
        job: JSON: paths and numbers.
        profile: where to run.
        name: name of the run, for Ray; unique in `storage`.
        storage: a folder that all nodes see. Ray leaves nothing there.

    Raises:
        StepfoldError: what a worker raised on purpose, as itself and without another attempt.
        InfraError: anything else that failed too often, with the end of its traceback.
    """
    if profile.compute.launcher == "inline":
        inline.fit(entry, job, profile.compute, name)
        return
    import ray
    from ray.train import TrainingFailedError

    from infra.ray.trainer import RoundTrainer, deliberate

    loop = {"entry": entry, "job": job, "threads": profile.compute.cpus_per_worker}
    how = _how_to_run(profile.compute, name, storage)
    trainer = RoundTrainer(train_loop, train_loop_config=loop, **how)
    try:
        with interruptible():
            trainer.fit()
    except TrainingFailedError as error:
        raise deliberate(error) or InfraError(f"{name} failed:\n{tail(str(error))}") from error
    except ray.exceptions.RayError as error:
        trainer.stop()
        raise InfraError(f"{name} lost its Ray cluster:\n{tail(str(error))}") from error
    except BaseException:  # Ctrl-C and SIGTERM too: nothing must go on behind the user's back
        trainer.stop()
        raise
    finally:
        shutil.rmtree(storage / name, ignore_errors=True)


def _how_to_run(compute: ComputeConfig, name: str, storage: Path) -> dict[str, Any]:
    """Where the workers are, how many, and what follows when one fails, as Ray is told it."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig

    from infra.ray.loopback import LoopbackConfig

    os.environ["RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S"] = str(compute.hang_timeout_s)
    os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = str(compute.start_timeout_s)
    resources = {"CPU": compute.cpus_per_worker, "GPU": compute.gpus_per_worker}
    failures = FailureConfig(
        max_failures=compute.max_restarts,
        controller_failure_limit=compute.max_restarts,  # or it waits for ever for a worker
    )
    return {
        "torch_config": LoopbackConfig() if compute.ray_address == "local" else None,
        "scaling_config": ScalingConfig(
            num_workers=compute.workers,
            use_gpu=compute.gpus_per_worker > 0,
            resources_per_worker={kind: each for kind, each in resources.items() if each},
        ),
        "run_config": RunConfig(
            name=name, storage_path=str(storage.resolve()), failure_config=failures
        ),
    }
