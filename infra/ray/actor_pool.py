"""A pool of Ray actors that serve jobs, each watched by its pulse.

An actor that dies is replaced and its jobs are done again. So is one that no longer answers: a
stopped process is alive to Ray, which would wait for it for ever. Actors get jobs when they have
answered once, so that work goes on with those there are where a cluster has lost a node.
"""

import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from infra.ray.worker import JobServer, end_process, tail, unpack
from pipeline.config.profile import ComputeConfig
from pipeline.errors import InfraError

_PULSE = "pulse"  # a concurrency group: it is answered while jobs are served
_PULSE_EVERY_S = 5.0
_LOOK_EVERY_S = 1.0

_log = logging.getLogger(__name__)


@dataclass
class _Worker:
    """One actor.

    Attributes:
        actor: Ray's handle.
        heard: when it answered last, or was started.
        pulse: the question that it has not answered yet.
        place: its node and pid, once it has answered.
        jobs: what it works on, by the answer to come.
    """

    actor: Any
    heard: float
    pulse: Any
    place: tuple[str, int] | None = None
    jobs: dict[Any, int] = field(default_factory=dict)

    @property
    def is_ready(self) -> bool:
        return self.place is not None


class ActorPool:
    """At most `compute.workers` actors, each with at most `at_once` jobs."""

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
            concurrency_groups={_PULSE: 1},
        )(JobServer)
        self._start_s = compute.start_timeout_s * (1 + compute.max_restarts)
        self._workers: list[_Worker] = []
        self._waiting: deque[int] = deque()
        self._deaths: dict[int | None, int] = {}  # by job; None stands for no job at all

    def run(self, jobs: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Do all jobs; yields results as they come.

        Raises:
            StepfoldError: what a job raised on purpose, as itself.
            InfraError: a job failed otherwise, or its workers died too often, or none starts.
        """
        self._waiting.extend(range(len(jobs)))
        self._workers = [self._start() for _ in range(min(self._compute.workers, len(jobs)))]
        while self._waiting or any(worker.jobs for worker in self._workers):
            self._hand_out(jobs)
            asked = [ref for each in self._workers for ref in (*each.jobs, each.pulse) if ref]
            ready, _ = self._ray.wait(asked, num_returns=1, timeout=_LOOK_EVERY_S)
            for ref in ready:
                result = self._hear(ref)
                if result is not None:
                    yield result
            self._look_after()

    def close(self) -> None:
        """Stop all actors."""
        for worker in self._workers:
            self._ray.kill(worker.actor)
        self._workers = []

    def _start(self) -> _Worker:
        actor = self._actor_class.remote(self._factory, self._spec, self._compute.cpus_per_worker)
        return _Worker(actor, time.monotonic(), self._ask(actor))

    def _ask(self, actor: Any) -> Any:
        return actor.beat.options(concurrency_group=_PULSE).remote()

    def _hand_out(self, jobs: Sequence[dict[str, Any]]) -> None:
        for _ in range(self._at_once):  # one each before anyone gets a second
            for worker in self._workers:
                if self._waiting and worker.is_ready and len(worker.jobs) < self._at_once:
                    index = self._waiting.popleft()
                    worker.jobs[worker.actor.serve.remote(jobs[index])] = index

    def _hear(self, ref: Any) -> dict[str, Any] | None:
        """Take one answer: the result of a job, or a pulse."""
        worker = next(each for each in self._workers if ref is each.pulse or ref in each.jobs)
        try:
            answer = self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            self._replace(worker, f"died ({tail(str(error))})")
            return None
        worker.heard = time.monotonic()
        if ref is worker.pulse:
            worker.pulse, worker.place = None, answer
            return None
        del worker.jobs[ref]
        if "failure" in answer:
            raise unpack(answer["failure"])
        result: dict[str, Any] = answer["result"]
        return result

    def _look_after(self) -> None:
        """Take every pulse in time, and give up on who has none."""
        now = time.monotonic()
        for worker in list(self._workers):
            silent = now - worker.heard
            if worker.pulse is None and silent >= _PULSE_EVERY_S:
                worker.pulse, worker.heard = self._ask(worker.actor), now
            elif worker.is_ready and worker.pulse is not None:
                if silent > self._compute.hang_timeout_s:
                    self._end(worker)
                    self._replace(worker, f"has not answered for {silent:.0f} s")
            elif not any(each.is_ready for each in self._workers) and silent > self._start_s:
                raise InfraError(
                    f"no worker started within {silent:.0f} s; has the cluster room for one with "
                    f"{self._compute.cpus_per_worker} CPU(s) and {self._compute.gpus_per_worker} "
                    "GPU(s)? Look at `ray status`, or lower what a worker needs, and run again"
                )

    def _end(self, worker: _Worker) -> None:
        """Kill a process that hangs; Ray asks it to exit, which a stopped one does not hear."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        if worker.place is None:
            return
        node, pid = worker.place
        there = NodeAffinitySchedulingStrategy(node_id=node, soft=False)
        self._ray.remote(num_cpus=0, scheduling_strategy=there)(end_process).remote(pid)

    def _replace(self, worker: _Worker, what: str) -> None:
        self._ray.kill(worker.actor)
        lost = list(worker.jobs.values())
        blamed: list[int | None] = [*lost] or [None]
        for index in blamed:
            self._deaths[index] = self._deaths.get(index, 0) + 1
        worst = max(self._deaths[index] for index in blamed)
        if worst > self._compute.max_restarts:
            which = "the same job lost its worker" if lost else "workers without a job were lost"
            raise InfraError(
                f"{which} {worst} times; the last one {what}\n"
                "Look into the worker's log, or lower what a worker needs, and run again"
            )
        _log.warning("a worker %s; its jobs are done again", what)
        self._waiting.extendleft(reversed(lost))
        self._workers[self._workers.index(worker)] = self._start()
