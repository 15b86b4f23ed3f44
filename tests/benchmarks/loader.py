"""The target loader: random rows of mapped tars, against copies of memory that is in place.

Two kinds of records: the demo's, where the work a row costs matters, and those of Stable
Diffusion's latents (float16, 64 KiB a row), where bytes do. The yardsticks move as many bytes into
a warm buffer: `np.copyto` of one contiguous piece, and `np.take` of the same random rows, from
memory; and, to see what mapping files costs, `np.copyto` from the mapped tars themselves.
"""

from collections.abc import Iterator

import numpy as np
import torch

from pipeline.data.records import RecordShards
from pipeline.data.training_data import Order
from pipeline.training.batches import READ, TargetSource
from tests.benchmarks.rows import Row, Settings, at_least
from tests.benchmarks.sizes import DEMO, Targets, write_targets
from tests.benchmarks.timing import Arm, interleave

LEAST_ROWS = 160_000
LEAST_SHARE = 0.7
SD_LATENT = (4, 64, 64)
SD_BATCH = 64


def measure(settings: Settings) -> list[Row]:
    """Both kinds of records."""
    return [*_demo(settings), *_stable_diffusion(settings)]


class _Rows:
    """Batches of rows in the order of training, without end."""

    def __init__(self, size: int, batch: int) -> None:
        self._order = Order(seed=0, size=size)
        self._batch = batch
        self._next = 0

    def take(self, count: int) -> Iterator["np.ndarray[tuple[int], np.dtype[np.int64]]"]:
        """The next `count` batches."""
        for _ in range(count):
            yield self._order.rows(self._next, self._batch)
            self._next += self._batch


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
    order = _Rows(len(shards), batch)

    def read(count: int) -> None:
        for rows in order.take(count):
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
                details={**timing.details(), "rows": len(shards), "tars": len(tars)},
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
        rows=256,
        dtype=torch.float16,
    )
    shards = RecordShards(targets.tars)
    row_bytes = sum(column.row_bytes for column in shards.columns.values())
    batch_bytes = SD_BATCH * row_bytes
    timings = interleave(
        _Latents(targets, shards, row_bytes).arms(),
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
                value=batch_bytes / timing.seconds / 1e9,
                unit="GB/s",
                ratio=ratio,
                details={
                    **timing.details(),
                    "row_bytes": row_bytes,
                    "rows": len(shards),
                    "ratio_to_gather": round(timings["np.take"].over(timing), 4),
                },
                **(at_least(LEAST_SHARE, ratio) if name == "RecordShards.read" else {}),
            )
        )
    return rows


class _Latents:
    """Everything that moves a batch; the source is as large as the records in every arm."""

    def __init__(self, targets: Targets, shards: RecordShards, row_bytes: int) -> None:
        self._shards = shards
        cpu = torch.device("cpu")
        self._source = TargetSource(targets.tars, targets.samples(), (0, 1), cpu)
        self._order = _Rows(len(shards), SD_BATCH)
        self._memory = np.ones((len(shards), row_bytes), np.uint8)
        self._batch = np.ones((SD_BATCH, row_bytes), np.uint8)
        self._mapped = [np.memmap(tar, np.uint8, "r") for tar in targets.tars]

    def arms(self) -> dict[str, Arm]:
        """By name."""
        return {
            "np.copyto": self._copy,
            "np.copyto from the mapped tars": self._copy_mapped,
            "np.take": self._gather,
            "RecordShards.read": self._read,
            "TargetSource.at, which makes them float32": self._at,
        }

    def _copy(self, count: int) -> None:
        for number in range(count):
            first = number * SD_BATCH % len(self._memory)
            np.copyto(self._batch, self._memory[first : first + SD_BATCH])

    def _copy_mapped(self, count: int) -> None:
        flat = self._batch.reshape(-1)
        for number in range(count):
            tar = self._mapped[number % len(self._mapped)]
            first = number * flat.size % (tar.size - flat.size)
            np.copyto(flat, tar[first : first + flat.size])

    def _gather(self, count: int) -> None:
        for rows in self._order.take(count):
            # without a mode that needs no check, numpy gathers into a copy first
            np.take(self._memory, rows, axis=0, out=self._batch, mode="clip")

    def _read(self, count: int) -> None:
        for rows in self._order.take(count):
            self._shards.read(rows, READ)

    def _at(self, count: int) -> None:
        for number in range(count):
            self._source.at(number * SD_BATCH, SD_BATCH)
