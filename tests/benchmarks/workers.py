"""Two workers against one on two cores: updates a second of the same global batch.

Processes that are connected by gloo and train with DeepSpeed as Ray Train's workers do. Ray itself
is left out: it starts the workers and watches them, and has no part in an update. All groups stay
alive and take turns, so that what slows the machine slows them alike.
"""

import faulthandler
import logging
import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tests.benchmarks.rows import Row, Settings, at_least
from tests.benchmarks.sizes import DEMO, write_targets
from tests.benchmarks.timing import Arm, Timing, interleave

AIM = 1.7
_ONE, _WIDE, _TWO = "1 worker, 1 thread", "1 worker, 2 threads", "2 workers, 1 thread each"


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
    """The demo's update in three arrangements."""
    tars = write_targets(
        settings.scratch / "targets", DEMO.latent_shape, tars=4, members=2, rows=256
    )
    shapes = {_ONE: (1, 1), _WIDE: (1, 2), _TWO: (2, 1)}
    with _groups(shapes, tars, settings.scratch) as groups:
        arms: dict[str, Arm] = {name: group.updates for name, group in groups.items()}
        timings = interleave(
            arms,
            blocks=settings.count(9, 2),
            per_block=settings.count(20, 2),
            warm=settings.count(5, 1),
        )
    return [_row(name, timings) for name in shapes]


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
def _groups(
    shapes: dict[str, tuple[int, int]], tars: list[Path], scratch: Path
) -> Iterator[dict[str, _Group]]:
    """Start every group, one after the other; stop them all at the end."""
    groups: dict[str, _Group] = {}
    processes: list[Any] = []
    try:
        for number, (name, (workers, threads)) in enumerate(shapes.items()):
            folder = scratch / f"group-{number}"
            folder.mkdir()
            groups[name] = _start(processes, folder, tars, workers, threads)
        yield groups
        for group in groups.values():
            group.close()
        for process in processes:
            process.join(timeout=30)
    finally:
        for process in processes:
            process.kill()


def _start(
    processes: list[Any], folder: Path, tars: list[Path], workers: int, threads: int
) -> _Group:
    context = multiprocessing.get_context("spawn")
    pipes = []
    for rank in range(workers):
        ours, theirs = context.Pipe()
        job = {
            "rank": rank,
            "workers": workers,
            "threads": threads,
            "folder": str(folder),
            "tars": [str(tar) for tar in tars],
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
    from infra.ray_worker import prepare_process

    rank, workers = job["rank"], job["workers"]
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(workers))
    prepare_process(job["threads"])
    logging.getLogger().setLevel(logging.ERROR)
    import torch.distributed as dist

    from tests.benchmarks.rounds import OpenRound

    folder = Path(job["folder"])
    meeting = f"file://{folder / 'meeting'}"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=workers)
    opened = OpenRound(DEMO, [Path(tar) for tar in job["tars"]], folder / str(rank))
    pipe.send(None)
    while count := pipe.recv():
        opened.updates(count)
        faulthandler.cancel_dump_traceback_later()  # the engine's watchdog: others have their turn
        pipe.send(None)
