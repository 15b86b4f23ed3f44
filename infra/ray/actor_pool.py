"""A pool of Ray actors that serve jobs, monitored by heartbeats.

An actor that dies or stops responding is replaced, and its jobs are repeated. Ray itself waits
forever for a stopped process. Actors get jobs after their first heartbeat, so that work continues
on the remaining nodes if a cluster has lost one.
"""

import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from infra.ray.worker import JobServer, error_from_json, kill_process, last_lines
from pipeline.config.profile import ComputeConfig
from pipeline.errors import InfraError

_HEARTBEAT = "pulse"  # concurrency group: heartbeats are processed while jobs run
_HEARTBEAT_INTERVAL_S = 5.0
_POLL_INTERVAL_S = 1.0

_log = logging.getLogger(__name__)


@dataclass
class _Worker:
    """One actor.

    Attributes:
        actor: Ray's handle.
        last_seen: time of its last response, or of its start.
        heartbeat: reference to the pending heartbeat; None if no heartbeat is pending.
        place: its node id and pid, known after the first heartbeat.
        jobs: index of each running job, by its reference.
    """

    actor: Any
    last_seen: float
    heartbeat: Any
    place: tuple[str, int] | None = None
    jobs: dict[Any, int] = field(default_factory=dict)

    @property
    def is_ready(self) -> bool:
        return self.place is not None


class ActorPool:
    """At most `compute.workers` actors, each with at most `at_once` concurrent jobs."""

    def __init__(
        self, factory: str, spec: dict[str, Any], compute: ComputeConfig, at_once: int
    ) -> None:
        """Prepare actors that call `factory(spec)`; see `infra.launch.run_jobs`."""
        import ray

        self._ray = ray
        self._compute = compute
        self._factory = factory
        self._spec = ray.put(spec)
        self._at_once = at_once
        self._actor_class = ray.remote(
            num_cpus=compute.cpus_per_worker,
            num_gpus=compute.gpus_per_worker,
            max_concurrency=at_once,
            concurrency_groups={_HEARTBEAT: 1},
        )(JobServer)
        self._start_s = compute.start_timeout_s * (1 + compute.max_restarts)
        self._workers: list[_Worker] = []
        self._waiting: deque[int] = deque()
        self._deaths: dict[int | None, int] = {}  # by job; None for workers without a job

    def run(self, jobs: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Run all jobs and yield results as they complete.

        Raises:
            StepfoldError: a StepfoldError raised by a job, with its class.
            InfraError: a job failed with another error, its workers died too often, or no worker
                starts.
        """
        self._waiting.extend(range(len(jobs)))
        self._workers = [self._start() for _ in range(min(self._compute.workers, len(jobs)))]
        while self._waiting or any(worker.jobs for worker in self._workers):
            self._assign(jobs)
            pending = [ref for each in self._workers for ref in (*each.jobs, each.heartbeat) if ref]
            ready, _ = self._ray.wait(pending, num_returns=1, timeout=_POLL_INTERVAL_S)
            for ref in ready:
                result = self._receive(ref)
                if result is not None:
                    yield result
            self._check_heartbeats()

    def close(self) -> None:
        """Stop all actors."""
        for worker in self._workers:
            self._ray.kill(worker.actor)
        self._workers = []

    def _start(self) -> _Worker:
        actor = self._actor_class.remote(self._factory, self._spec, self._compute.cpus_per_worker)
        return _Worker(actor, time.monotonic(), self._request_heartbeat(actor))

    def _request_heartbeat(self, actor: Any) -> Any:
        return actor.beat.options(concurrency_group=_HEARTBEAT).remote()

    def _assign(self, jobs: Sequence[dict[str, Any]]) -> None:
        for _ in range(self._at_once):  # one job per worker before a worker gets a second
            for worker in self._workers:
                if self._waiting and worker.is_ready and len(worker.jobs) < self._at_once:
                    index = self._waiting.popleft()
                    worker.jobs[worker.actor.serve.remote(jobs[index])] = index

    def _receive(self, ref: Any) -> dict[str, Any] | None:
        """Process one response: the result of a job, or a heartbeat (None)."""
        worker = next(each for each in self._workers if ref is each.heartbeat or ref in each.jobs)
        try:
            response = self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            self._replace(worker, f"died ({last_lines(str(error))})")
            return None
        worker.last_seen = time.monotonic()
        if ref is worker.heartbeat:
            worker.heartbeat, worker.place = None, response
            return None
        del worker.jobs[ref]
        if "failure" in response:
            raise error_from_json(response["failure"])
        result: dict[str, Any] = response["result"]
        return result

    def _check_heartbeats(self) -> None:
        """Request due heartbeats, and replace workers that stopped responding."""
        now = time.monotonic()
        for worker in list(self._workers):
            silent = now - worker.last_seen
            if worker.heartbeat is None and silent >= _HEARTBEAT_INTERVAL_S:
                worker.heartbeat = self._request_heartbeat(worker.actor)
                worker.last_seen = now
            elif worker.is_ready and worker.heartbeat is not None:
                if silent > self._compute.hang_timeout_s:
                    self._kill(worker)
                    self._replace(worker, f"did not respond for {silent:.0f} s")
            elif not any(each.is_ready for each in self._workers) and silent > self._start_s:
                raise InfraError(
                    f"no worker started within {silent:.0f} s; a worker needs "
                    f"{self._compute.cpus_per_worker} CPU(s) and {self._compute.gpus_per_worker} "
                    "GPU(s). Check free resources with `ray status`, or lower "
                    "compute.cpus_per_worker or compute.gpus_per_worker, and run again"
                )

    def _kill(self, worker: _Worker) -> None:
        """Kill a hanging process by signal; a stopped process ignores Ray's exit request."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        if worker.place is None:
            return
        node, pid = worker.place
        same_node = NodeAffinitySchedulingStrategy(node_id=node, soft=False)
        self._ray.remote(num_cpus=0, scheduling_strategy=same_node)(kill_process).remote(pid)

    def _replace(self, worker: _Worker, reason: str) -> None:
        self._ray.kill(worker.actor)
        lost = list(worker.jobs.values())
        blamed: list[int | None] = [*lost] or [None]
        for index in blamed:
            self._deaths[index] = self._deaths.get(index, 0) + 1
        worst = max(self._deaths[index] for index in blamed)
        if worst > self._compute.max_restarts:
            which = "the same job lost its worker" if lost else "workers without a job were lost"
            raise InfraError(
                f"{which} {worst} times; the last one {reason}\n"
                "Check the worker's log, or lower the resources per worker, and run again"
            )
        _log.warning("replacing worker that %s; repeating its jobs", reason)
        self._waiting.extendleft(reversed(lost))
        self._workers[self._workers.index(worker)] = self._start()
