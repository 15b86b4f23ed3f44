"""The target loader: random rows of mapped tars, against copies of warm memory."""

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.data.records import RecordShards
from pipeline.data.training_data import Order
from pipeline.training.batches import READ, TargetSource
from tests.benchmarks.harness import Arm, Row, Settings, at_least, interleave
from tests.benchmarks.sizes import DEMO, write_targets

LEAST_ROWS = 160_000
LEAST_SHARE = 0.7
SD_LATENT = (4, 64, 64)
SD_BATCH = 64


def measure(settings: Settings) -> list[Row]:
    """The target loader: random rows of mapped tars, against copies of memory that is in place.

    Two kinds of records: the demo's, where the work a row costs matters, and those of Stable
    Diffusion's latents (float16, 64 KiB a row), where bytes do. The yardstick moves as many
    bytes into a warm buffer: `np.copyto` of one contiguous piece.
    """
    return [*_demo(settings), *_stable_diffusion(settings)]


def _batches(size: int, batch: int) -> Callable[[int], Iterator[NDArray[np.int64]]]:
    """Batches of rows in the order of training, without end, a given number at a time."""
    order = Order(seed=0, size=size)
    endless = (order.rows(number * batch, batch) for number in itertools.count())
    return lambda count: itertools.islice(endless, count)


def _demo(settings: Settings) -> list[Row]:
    batch = DEMO.batch
    # as the first round of the demo: 120 shards of 300 rows, in chunks of 256
    targets = write_targets(
        settings.scratch / "demo",
        DEMO.latent_shape,
        tars=settings.count(120, 3),
        members=1,
        rows=settings.count(300, 100),
    )
    tars, cpu = targets.tars, torch.device("cpu")
    shards, source = RecordShards(tars), TargetSource(tars, targets.samples(), (0, 1), cpu)
    batches = _batches(len(shards), batch)

    def read(count: int) -> None:
        for rows in batches(count):
            shards.read(rows)

    def at(count: int) -> None:
        for number in range(count):
            source.at(number * batch, batch)

    timings = interleave(
        {"RecordShards.read": read, "TargetSource.at": at},
        blocks=settings.count(15, 2),
        per_block=settings.count(300, 2),
        warm=settings.count(300, 1),
    )
    rows = []
    for name, timing in timings.items():
        speed = batch / timing.seconds
        rows.append(
            Row(
                name=f"demo/{name}",
                what=f"demo records, batches of {batch} random rows, one core: {name}",
                value=speed,
                unit="rows/s",
                details=timing.details(),
                **at_least(LEAST_ROWS, speed),
            )
        )
    return rows


def _stable_diffusion(settings: Settings) -> list[Row]:
    targets = write_targets(
        settings.scratch / "latents",
        SD_LATENT,
        tars=settings.count(4, 1),
        members=settings.count(4, 1),
        rows=settings.count(256, 128),
        dtype=torch.float16,
    )
    shards = RecordShards(targets.tars)
    source = TargetSource(targets.tars, targets.samples(), (0, 1), torch.device("cpu"))
    batches = _batches(len(shards), SD_BATCH)
    row_bytes = sum(column.row_bytes for column in shards.columns.values())
    memory = np.ones((len(shards), row_bytes), np.uint8)
    batch = np.ones((SD_BATCH, row_bytes), np.uint8)

    def copy(count: int) -> None:
        for number in range(count):
            first = number * SD_BATCH % len(memory)
            np.copyto(batch, memory[first : first + SD_BATCH])

    def read(count: int) -> None:
        for rows in batches(count):
            shards.read(rows, READ)

    def at(count: int) -> None:
        for number in range(count):
            source.at(number * SD_BATCH, SD_BATCH)

    arms: dict[str, Arm] = {
        "np.copyto": copy,
        "RecordShards.read": read,
        "TargetSource.at, which makes them float32": at,
    }
    timings = interleave(
        arms,
        blocks=settings.count(15, 2),
        per_block=settings.count(32, 2),
        warm=2 * len(shards) // SD_BATCH,  # every page once, so that all of it is mapped
    )
    rows = []
    for name, timing in timings.items():
        ratio = timings["np.copyto"].over(timing)
        rows.append(
            Row(
                name=f"latents/{name}",
                what=f"latents [4, 64, 64] in float16, batches of {SD_BATCH} random rows: {name}; "
                "ratio to np.copyto",
                value=SD_BATCH * row_bytes / timing.seconds / 1e9,
                unit="GB/s",
                ratio=ratio,
                details=timing.details(),
                **(at_least(LEAST_SHARE, ratio) if name == "RecordShards.read" else {}),
            )
        )
    return rows
