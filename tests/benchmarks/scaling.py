"""Growth of cost with parameters, pixels and batch. For workers see the benchmark `workers`."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.data.shards.dataset_info import read_info
from stages.rounds.target_worker import TargetWorker
from tests.benchmarks.harness import Row, Settings
from tests.benchmarks.loops import OpenRound
from tests.benchmarks.sizes import (
    CLASSES,
    Size,
    num_parameters,
    target_spec,
    write_bundle,
    write_samples,
    write_targets,
)

_WIDTHS = ((32, 64), (64, 128), (128, 256), (320, 640))
_MEDIUM = Size("resolution", (64, 128), (3, 8, 8), 16)
_SMALL = Size("batch", (32, 64), (1, 8, 8), 128)


@dataclass(frozen=True)
class _Point:
    """Measurements of a network: seconds per update and stage-1 target, bytes of a target."""

    size: Size
    parameters: int
    update_s: float
    target_s: float
    target_bytes: float


def measure(settings: Settings) -> list[Row]:
    """Growth of cost: time of an update and of a target, and bytes of a target.

    One quantity is varied at a time; the law `cost = c x^a` is fitted in logarithms and its
    exponent printed.
    """
    scratch, quick = settings.scratch, settings.quick
    widths = [Size("width", each, (1, 8, 8), 32) for each in (_WIDTHS[:2] if quick else _WIDTHS)]
    sides = [replace(_MEDIUM, latent_shape=(3, n, n)) for n in ((8, 16) if quick else (8, 16, 32))]
    batches = [replace(_SMALL, batch=n) for n in ((16, 32) if quick else (16, 64, 256))]
    rows = []
    for name, sizes, x in (
        ("parameters", widths, lambda point: point.parameters),
        ("pixels", sides, lambda point: point.size.latent_shape[1] ** 2),
        ("batch", batches, lambda point: point.size.batch),
    ):
        points = [
            _point(size, scratch / f"{name}-{number}", settings)
            for number, size in enumerate(sizes)
        ]
        rows += [_measured(name, point, x(point)) for point in points]
        rows += _laws(name, points, [float(x(point)) for point in points])
    return rows


def _point(size: Size, folder: Path, settings: Settings) -> _Point:
    folder.mkdir()
    rows = max(64, size.batch)
    targets = write_targets(folder / "targets", size.latent_shape, tars=1, members=1, rows=rows)
    opened = OpenRound(size, targets, folder)
    parameters = num_parameters(opened.engine.module)
    count = min(128, 2**27 // parameters)  # as many as keep a large network to some seconds
    data = write_samples(folder / "data", size.latent_shape, max(2 * count, 4 * CLASSES))
    bundle = write_bundle(folder / "teacher", size, "teacher")
    worker = TargetWorker(target_spec(folder, size.plan(guidance=True), data, bundle))
    rows_of_shard = min(count, read_info(data).splits["train"].shards[0].count)
    served = []

    def serve(times: int) -> None:
        for _ in range(times):
            name = f"shard-{len(served)}"
            job = {"key": name, "path": name, "first": 0, "count": rows_of_shard, "first_tuple": 0}
            served.append(worker.serve(job))

    update_s = _seconds(opened.updates, settings)
    target_s = _seconds(serve, settings) / rows_of_shard
    written = sum(file["size"] for file in served[0]["files"].values())
    return _Point(size, parameters, update_s, target_s, written / rows_of_shard)


def _seconds(action: Callable[[int], None], settings: Settings) -> float:
    """Return the median of a few repetitions of about a second each."""
    action(1)
    began = time.perf_counter()
    action(1)
    each = time.perf_counter() - began
    per_block = 1 if settings.quick else max(1, min(20, round(1.0 / each)))
    found = []
    for _ in range(settings.count(7, 1)):
        began = time.perf_counter()
        action(per_block)
        found.append((time.perf_counter() - began) / per_block)
    return statistics.median(found)


def _measured(name: str, point: _Point, x: float) -> Row:
    size = point.size
    shape = "x".join(str(each) for each in size.latent_shape)
    return Row(
        name=f"{name}/{x:g}",
        what=f"by {name}: {point.parameters / 1e6:.2f}M parameters, {shape}, batch {size.batch}: "
        f"{1 / point.target_s:,.0f} targets/s of {point.target_bytes:,.0f} bytes, and",
        value=1 / point.update_s,
        unit="updates/s",
    )


def _laws(name: str, points: Sequence[_Point], x: Sequence[float]) -> list[Row]:
    measured = {"time of an update": [point.update_s for point in points]}
    if name != "batch":  # on which a target does not depend
        measured["time of a target"] = [point.target_s for point in points]
    if name == "pixels":
        measured["bytes of a target"] = [point.target_bytes for point in points]
    rows = []
    for what, y in measured.items():
        exponent, factor, misfit = fit_power(x, y)
        rows.append(
            Row(
                name=f"{name}/law/{what}",
                what=f"law: {what} grows as {name} to the power",
                value=exponent,
                unit="",
                details={"factor": factor, "worst_misfit": round(misfit, 3)},
            )
        )
    return rows


def fit_power(x: Sequence[float], y: Sequence[float]) -> tuple[float, float, float]:
    """Exponent and factor of y = c x^a by least squares in logarithms.

    The third number is the largest ratio between a point and the law, less one.
    """
    log_x, log_y = np.log(x), np.log(y)
    exponent, logarithm = np.polyfit(log_x, log_y, 1)
    misfit = np.abs(log_y - (exponent * log_x + logarithm)).max()
    return float(exponent), float(np.exp(logarithm)), float(np.expm1(misfit))
