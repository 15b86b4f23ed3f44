"""Launch work on the workers: independent jobs on a pool of actors, or one `ray.train` fit.

Work is named "module:function" and described in JSON and paths; no object of this project is
pickled. Call both functions inside `infra.ray.cluster.cluster`. With `compute.launcher: inline`
they run in this process instead, see `infra.inline`.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra import inline
from infra.process.environment import interruptible
from infra.ray.actor_pool import ActorPool
from infra.ray.worker import last_lines, train_loop
from pipeline.config.profile import ComputeConfig, Profile
from pipeline.errors import InfraError

if TYPE_CHECKING:
    from infra.ray.private import RoundTrainer


def run_jobs(
    factory: str,
    spec: dict[str, Any],
    jobs: Sequence[dict[str, Any]],
    profile: Profile,
    *,
    at_once: int = 1,
) -> Iterator[dict[str, Any]]:
    """Run independent jobs on `profile.compute.workers` actors; yield results as they finish.

    Every actor calls `factory(spec)` once, and the function it returns once per job. A job is
    repeated when its actor dies or exceeds `compute.hang_timeout_s`, so jobs must be idempotent.
    With `compute.launcher: inline`, jobs run in order in this process, `at_once` has no effect, and
    no job is repeated.

    Args:
        factory: "module:function", importable in the workers.
        spec: JSON for the factory.
        jobs: JSON for each job.
        profile: compute profile.
        at_once: number of jobs per actor at the same time, each in a thread. More than one pays off
            when jobs wait for a disk; the function must then serialise its own computation.

    Raises:
        StepfoldError: raised by a job, with its own type.
        InfraError: a job failed with another error (the message ends with its traceback), lost its
            worker more than `compute.max_restarts` times, or no worker starts.
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

    If a worker dies, exceeds `compute.hang_timeout_s` or fails unexpectedly, the whole group
    restarts and `entry` continues from its own checkpoint. The fit gives up after
    `compute.max_restarts` restarts without a new checkpoint in the ledger of `job["checkpoints"]`,
    if there is such a folder. With `compute.launcher: inline` this process is the only rank, and
    failures are not retried.

    Args:
        entry: "module:function", importable in the workers; called with `job`.
        job: JSON: paths and numbers.
        profile: compute profile.
        name: run name for Ray, unique in `storage`.
        storage: folder visible to all nodes. Ray's files in it are removed afterwards.

    Raises:
        StepfoldError: raised by a worker, with its own type and without a retry.
        InfraError: another error exhausted the retries; the message ends with its traceback.
    """
    if profile.compute.launcher == "inline":
        inline.fit(entry, job, profile.compute, name)
        return
    import ray
    from ray.train import TrainingFailedError

    from infra.ray.private import RoundTrainer, removing_placement_groups, stepfold_error

    loop = {"entry": entry, "job": job, "threads": profile.compute.cpus_per_worker}
    config = _trainer_config(profile.compute, name, storage)
    trainer = RoundTrainer(train_loop, train_loop_config=loop, **config)
    try:
        with removing_placement_groups():
            _run(trainer)
    except TrainingFailedError as error:
        raise stepfold_error(error) or _failure(name, profile.compute, str(error)) from error
    except ray.exceptions.RayError as error:
        raise InfraError(f"{name} lost its Ray cluster:\n{last_lines(str(error))}") from error
    finally:
        shutil.rmtree(storage / name, ignore_errors=True)


def _run(trainer: "RoundTrainer") -> None:
    """Run a fit; stop its controller and workers unless Ray Train has ended them itself."""
    from ray.train import TrainingFailedError

    try:
        with interruptible():
            trainer.fit()
    except TrainingFailedError:
        raise
    except BaseException:  # Ctrl-C and SIGTERM too: no worker may outlive the command
        trainer.stop()
        raise


def _failure(name: str, compute: ComputeConfig, text: str) -> InfraError:
    """Describe a failed fit by the end of Ray's text."""
    if "in init_process_group" in text:  # of the traceback
        reason = text.strip().splitlines()[-1]
        return InfraError(
            f"{name}: compute.workers: {compute.workers} workers of Ray at {compute.ray_address} "
            f"did not form a process group ({reason}); let the host name of each node resolve to "
            "an address that the others reach, or set GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME on "
            "the nodes to the interface with that address"
        )
    return InfraError(f"{name} failed:\n{last_lines(text)}")


def _trainer_config(compute: ComputeConfig, name: str, storage: Path) -> dict[str, Any]:
    """Return Ray's configuration of workers, storage and failure handling."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig

    from infra.ray.private import LoopbackConfig

    os.environ["RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S"] = str(compute.hang_timeout_s)
    os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = str(compute.start_timeout_s)
    resources = {"CPU": compute.cpus_per_worker, "GPU": compute.gpus_per_worker}
    failures = FailureConfig(
        max_failures=compute.max_restarts,
        controller_failure_limit=compute.max_restarts,  # or it waits forever
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
