"""Two workers against one on two cores: updates a second of the same global batch.

Processes that are connected by gloo and train with DeepSpeed as Ray Train's workers do. Ray itself
is left out: it starts the workers and watches them, and has no part in an update. All groups stay
alive and take turns, so that what slows the machine slows them alike.

Two plain loops say what there is to win: two processes that never speak to each other, the ceiling
on these cores, and PyTorch's own data parallelism.
"""

import logging
import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

from tests.benchmarks.rows import Row, Settings, at_least
from tests.benchmarks.sizes import DEMO, Targets, random_draws, write_targets
from tests.benchmarks.timing import Arm, Timing, interleave

AIM = 1.7
_ONE, _WIDE, _TWO = "1 worker, 1 thread", "1 worker, 2 threads", "2 workers, 1 thread each"
_APART = "2 plain loops of half the batch, which never meet"
_PARALLEL = "2 plain loops under DistributedDataParallel"


@dataclass(frozen=True)
class _Shape:
    """How an update is spread: processes, torch's threads in each, and who trains."""

    workers: int
    threads: int
    trainer: Literal["product", "apart", "parallel"] = "product"


_SHAPES = {
    _ONE: _Shape(1, 1),
    _WIDE: _Shape(1, 2),
    _TWO: _Shape(2, 1),
    _APART: _Shape(2, 1, "apart"),
    _PARALLEL: _Shape(2, 1, "parallel"),
}


@dataclass(frozen=True)
class _Group:
    """Worker processes of one training, each at the end of a pipe."""

    pipes: tuple[Connection, ...]

    def updates(self, count: int) -> None:
        """All workers make updates together."""
        for pipe in self.pipes:
            pipe.send(count)
        for pipe in self.pipes:
            pipe.recv()

    def close(self) -> None:
        """Let the workers end."""
        for pipe in self.pipes:
            pipe.send(0)


def measure(settings: Settings) -> list[Row]:
    """The demo's update in every arrangement."""
    targets = write_targets(
        settings.scratch / "targets", DEMO.latent_shape, tars=4, members=2, rows=256
    )
    with _groups(targets, settings.scratch) as groups:
        arms: dict[str, Arm] = {name: group.updates for name, group in groups.items()}
        timings = interleave(
            arms,
            blocks=settings.count(9, 2),
            per_block=settings.count(20, 2),
            warm=settings.count(5, 1),
        )
    return [_row(name, timings) for name in _SHAPES]


def _row(name: str, timings: dict[str, Timing]) -> Row:
    speedup = timings[_ONE].over(timings[name])
    target = at_least(AIM, speedup) if name == _TWO else {}
    cores = len(os.sched_getaffinity(0))
    return Row(
        name=name,
        what=f"demo, batch {DEMO.batch}: {name}; ratio is the speed-up over one",
        value=1 / timings[name].seconds,
        unit="updates/s",
        ratio=speedup,
        details={**timings[name].details(), "cores": cores},
        **target,
    )


@contextmanager
def _groups(targets: Targets, scratch: Path) -> Iterator[dict[str, _Group]]:
    """Start every group, one after the other; stop them all at the end."""
    groups: dict[str, _Group] = {}
    processes: list[Any] = []
    try:
        for number, (name, shape) in enumerate(_SHAPES.items()):
            folder = scratch / f"group-{number}"
            folder.mkdir()
            groups[name] = _start(processes, folder, targets, shape)
        yield groups
        for group in groups.values():
            group.close()
        for process in processes:
            process.join(timeout=30)
    finally:
        for process in processes:
            process.kill()


def _start(processes: list[Any], folder: Path, targets: Targets, shape: _Shape) -> _Group:
    context = multiprocessing.get_context("spawn")
    pipes = []
    for rank in range(shape.workers):
        ours, theirs = context.Pipe()
        job = {
            "rank": rank,
            "workers": shape.workers,
            "threads": shape.threads,
            "trainer": shape.trainer,
            "folder": str(folder),
            "tars": [str(tar) for tar in targets.tars],
            "data": str(targets.data),
        }
        process = context.Process(target=work, args=(theirs, job), daemon=True)
        process.start()
        processes.append(process)
        pipes.append(ours)
    for pipe in pipes:
        pipe.recv()
    return _Group(tuple(pipes))


def work(pipe: Connection, job: dict[str, Any]) -> None:
    """Body of a worker: join the group, then make as many updates as the pipe says, until 0."""
    from infra.ray.worker import prepare_process

    rank, workers = job["rank"], job["workers"]
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(workers))
    prepare_process(job["threads"])
    logging.getLogger().setLevel(logging.ERROR)
    import torch.distributed as dist

    folder = Path(job["folder"])
    meeting = f"file://{folder / 'meeting'}"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=workers)
    updates = _product(job) if job["trainer"] == "product" else _plain(job)
    pipe.send(None)
    while count := pipe.recv():
        updates(count)
        pipe.send(None)


def _product(job: dict[str, Any]) -> Arm:
    from tests.benchmarks.rounds import OpenRound

    targets = Targets([Path(tar) for tar in job["tars"]], Path(job["data"]))
    return OpenRound(DEMO, targets, Path(job["folder"]) / str(job["rank"])).updates


def _plain(job: dict[str, Any]) -> Arm:
    from torch.nn.parallel import DistributedDataParallel

    from tests.benchmarks.plain import in_memory, plain_loop

    module = DEMO.module()
    model = module if job["trainer"] == "apart" else DistributedDataParallel(module)
    data = in_memory(*random_draws(DEMO.latent_shape, 1024))
    return plain_loop(model, data, DEMO.batch // job["workers"], fused=True)
