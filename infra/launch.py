"""The two ways work reaches Ray: independent jobs on a pool of actors, and one fit on all workers.

Work is named ("module:function") and described in JSON and paths; no object of ours is pickled.
Both need Ray up: call them inside `infra.ray_cluster.cluster`.
"""

import logging
import shutil
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from infra.profile import ComputeConfig, Profile
from infra.ray_cluster import interruptible
from infra.ray_worker import JobServer, tail, train_loop, unpack
from pipeline.errors import InfraError

_log = logging.getLogger(__name__)


def run_jobs(
    factory: str,
    spec: dict[str, Any],
    jobs: Sequence[dict[str, Any]],
    profile: Profile,
    *,
    at_once: int = 1,
) -> Iterator[dict[str, Any]]:
    """Do independent jobs on `profile.compute.workers` actors; yields results as they finish.

    Every actor calls `factory(spec)` once and the function it returns once a job. Jobs of a dead
    actor are done again by a new one, so they must be idempotent.

    Args:
        factory: "module:function", importable in the workers.
        spec: JSON for the factory.
        jobs: JSON for each job.
        profile: where to run.
        at_once: jobs that an actor works on at the same time, each in a thread. More than one pays
            where a job waits for a disk; the function must then keep its computing apart itself.

    Raises:
        StepfoldError: what a job raised on purpose, as itself.
        InfraError: a job failed otherwise (with its traceback's end), or was there when its worker
            died more than `compute.max_restarts` times.
    """
    pool = _Pool(factory, spec, profile.compute, at_once)
    try:
        with interruptible():
            yield from pool.run(jobs)
    finally:
        pool.close()


class _Pool:
    """Actors, each with at most `at_once` jobs."""

    def __init__(
        self, factory: str, spec: dict[str, Any], compute: ComputeConfig, at_once: int
    ) -> None:
        import ray

        self._ray = ray
        self._compute = compute
        self._spec = ray.put(spec)
        self._factory = factory
        self._at_once = at_once
        self._actor_class = ray.remote(
            num_cpus=compute.cpus_per_worker,
            num_gpus=compute.gpus_per_worker,
            max_concurrency=at_once,
        )(JobServer)
        self._running: dict[Any, tuple[Any, int]] = {}

    def run(self, jobs: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        waiting = deque(range(len(jobs)))
        deaths = [0] * len(jobs)
        actors = [self._start() for _ in range(min(self._compute.workers, len(jobs)))]
        for actor in actors * self._at_once:
            if waiting:
                self._assign(actor, waiting.popleft(), jobs)
        while self._running:
            (ready,), _ = self._ray.wait(list(self._running), num_returns=1)
            actor = self._running[ready][0]
            try:
                answer = self._ray.get(ready)
            except self._ray.exceptions.RayError as error:
                self._replace(actor, jobs, deaths, error)
                continue
            del self._running[ready]
            if "failure" in answer:
                self._ray.kill(actor)
                raise unpack(answer["failure"])
            if waiting:
                self._assign(actor, waiting.popleft(), jobs)
            elif not self._jobs_of(actor):
                self._ray.kill(actor)
            yield answer["result"]

    def close(self) -> None:
        """Stop what still runs."""
        for actor, _ in self._running.values():
            self._ray.kill(actor)

    def _start(self) -> Any:
        return self._actor_class.remote(self._factory, self._spec, self._compute.cpus_per_worker)

    def _assign(self, actor: Any, index: int, jobs: Sequence[dict[str, Any]]) -> None:
        self._running[actor.serve.remote(jobs[index])] = (actor, index)

    def _jobs_of(self, actor: Any) -> list[Any]:
        return [answer for answer, (whose, _) in self._running.items() if whose is actor]

    def _replace(
        self, actor: Any, jobs: Sequence[dict[str, Any]], deaths: list[int], error: Exception
    ) -> None:
        self._ray.kill(actor)
        lost = [self._running.pop(answer)[1] for answer in self._jobs_of(actor)]
        for index in lost:
            deaths[index] += 1
        worst = max(deaths[index] for index in lost)
        if worst > self._compute.max_restarts:
            raise InfraError(
                f"a job killed its worker {worst} times, last: {tail(str(error))}\n"
                "Look into the worker's log, or lower what a worker needs, and run again"
            ) from error
        _log.warning("a worker died (%s); its jobs are done again", tail(str(error)))
        fresh = self._start()
        for index in lost:
            self._assign(fresh, index, jobs)


def fit(entry: str, job: dict[str, Any], profile: Profile, name: str, storage: Path) -> None:
    """Call `entry` on every worker of one `ray.train` fit, in fresh processes with a process group.

    A worker that dies, or fails by accident, has the whole group started again, up to
    `compute.max_restarts` times; `entry` then continues from its own checkpoint.

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
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError

    from infra.ray_loopback import LoopbackConfig
    from infra.ray_trainer import RoundTrainer, deliberate

    compute = profile.compute
    resources = {"CPU": compute.cpus_per_worker, "GPU": compute.gpus_per_worker}
    trainer = RoundTrainer(
        train_loop,
        torch_config=LoopbackConfig() if compute.ray_address == "local" else None,
        train_loop_config={"entry": entry, "job": job, "threads": compute.cpus_per_worker},
        scaling_config=ScalingConfig(
            num_workers=compute.workers,
            use_gpu=compute.gpus_per_worker > 0,
            resources_per_worker={kind: each for kind, each in resources.items() if each},
        ),
        run_config=RunConfig(
            name=name,
            storage_path=str(storage.resolve()),
            failure_config=FailureConfig(max_failures=compute.max_restarts),
        ),
    )
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
