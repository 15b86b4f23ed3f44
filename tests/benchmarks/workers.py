"""Two workers against one on two cores: updates a second of the same global batch.

Processes that are connected by gloo and train with DeepSpeed as Ray Train's workers do. Ray itself
is left out: it starts the workers and watches them, and has no part in an update. Two plain loops
say what there is to win: two processes that never communicate, the ceiling on these cores, and
PyTorch's own data parallelism.
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

from tests.benchmarks.harness import Arm, Row, Settings, Timing, at_least, interleave
from tests.benchmarks.sizes import DEMO, Targets, random_draws, write_targets

AIM = 1.7
_ONE, _TWO = "1 worker, 1 thread", "2 workers, 1 thread each"


@dataclass(frozen=True)
class _Shape:
    """Layout of an update: processes, threads of each, and the training loop."""

    workers: int
    threads: int
    trainer: Literal["product", "apart", "parallel"] = "product"


_SHAPES = {
    _ONE: _Shape(1, 1),
    "1 worker, 2 threads": _Shape(1, 2),
    _TWO: _Shape(2, 1),
    "2 plain loops of half the batch that never communicate": _Shape(2, 1, "apart"),
    "2 plain loops under DistributedDataParallel": _Shape(2, 1, "parallel"),
}


def measure(settings: Settings) -> list[Row]:
    """Two workers against one on two cores: updates a second of the same global batch.

    All groups of processes stay alive and take turns, so that what slows the machine slows them
    alike.
    """
    targets = write_targets(
        settings.scratch / "targets", DEMO.latent_shape, tars=4, members=2, rows=256
    )
    with _groups(targets, settings.scratch) as arms:
        timings = interleave(
            arms,
            blocks=settings.count(9, 2),
            per_block=settings.count(20, 2),
            warm=settings.count(5, 1),
        )
    return [_row(name, timings) for name in _SHAPES]


def _row(name: str, timings: dict[str, Timing]) -> Row:
    speedup = timings[_ONE].over(timings[name])
    return Row(
        name=name,
        what=f"demo, batch {DEMO.batch}: {name}; ratio is the speed-up over one",
        value=1 / timings[name].seconds,
        unit="updates/s",
        ratio=speedup,
        details=timings[name].details(),
        **(at_least(AIM, speedup) if name == _TWO else {}),
    )


@contextmanager
def _groups(targets: Targets, scratch: Path) -> Iterator[dict[str, Arm]]:
    """Start every group, one after another; stop all of them at the end."""
    processes: list[Any] = []
    try:
        yield {
            name: _start(processes, scratch / f"group-{number}", targets, shape)
            for number, (name, shape) in enumerate(_SHAPES.items())
        }
    finally:
        for process in processes:
            process.kill()


def _start(processes: list[Any], folder: Path, targets: Targets, shape: _Shape) -> Arm:
    context = multiprocessing.get_context("spawn")
    folder.mkdir()
    pipes = []
    for rank in range(shape.workers):
        ours, theirs = context.Pipe()
        process = context.Process(
            target=work, args=(theirs, rank, shape, folder, targets), daemon=True
        )
        process.start()
        processes.append(process)
        pipes.append(ours)
    for pipe in pipes:
        pipe.recv()  # it is ready

    def updates(count: int) -> None:
        for pipe in pipes:
            pipe.send(count)
        for pipe in pipes:
            pipe.recv()

    return updates


def work(pipe: Connection, rank: int, shape: _Shape, folder: Path, targets: Targets) -> None:
    """Body of a worker: join the group, then run the number of updates read from the pipe."""
    from infra.ray.worker import prepare_process

    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(shape.workers))
    prepare_process(shape.threads)
    logging.getLogger().setLevel(logging.ERROR)
    import torch.distributed as dist

    meeting = f"file://{folder / 'meeting'}"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=shape.workers)
    updates = _updates(rank, shape, folder, targets)
    pipe.send(None)
    while True:
        updates(pipe.recv())
        pipe.send(None)


def _updates(rank: int, shape: _Shape, folder: Path, targets: Targets) -> Arm:
    from torch.nn.parallel import DistributedDataParallel

    from tests.benchmarks.loops import OpenRound, in_memory, plain_loop

    if shape.trainer == "product":
        return OpenRound(DEMO, targets, folder / str(rank)).updates
    module = DEMO.module()
    model = module if shape.trainer == "apart" else DistributedDataParallel(module)
    data = in_memory(*random_draws(DEMO.latent_shape, 1024))
    return plain_loop(model, data, DEMO.batch // shape.workers, fused=True)
