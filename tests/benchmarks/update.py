"""One training update, ZeRO-1 with one worker, against a plain PyTorch loop with the same threads.

The product's side is `train_round` itself on the DeepSpeed engine: records read from a tar, loss,
its mean over ranks, backward, clipping, Adam, a line of metrics in ten updates. The yardstick is
`tests.benchmarks.plain`, with torch's default Adam for the device and with the fused one; the
target is held against the faster of the two.
"""

import cProfile
import io
import pstats
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from pipeline.tracking import JsonlTracker
from tests.benchmarks.plain import in_memory, loss_of, plain_loop
from tests.benchmarks.rounds import LOG_EVERY, OpenRound
from tests.benchmarks.rows import Row, Settings, at_most
from tests.benchmarks.sizes import DEMO, LARGE, Size, num_parameters, write_targets
from tests.benchmarks.timing import Arm, Stopwatch, Timing, interleave

_LIMITS = {"demo": 1.15, "50M": 1.05}
_PLAIN = "plain loop, default Adam"
_FUSED = "plain loop, fused Adam"
_OURS = "train_round on DeepSpeed, ZeRO-1"
_TORCH = "train_round on the plain torch engine"


def measure(settings: Settings) -> list[Row]:
    """Both sizes, then the demo's update taken apart."""
    sizes = (DEMO,) if settings.quick else (DEMO, LARGE)
    rows = []
    for size in sizes:
        bench = _Bench(size, settings.scratch / size.name)
        rows += bench.compare(settings)
        if size.name == "demo":
            rows += bench.take_apart(settings.count(60, 3))
            if settings.profile:
                bench.write_profiles(settings.output, settings.count(40, 3))
    return rows


class _Bench:
    """One size: its records on disk and in memory, and everything that can train on them."""

    def __init__(self, size: Size, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._size = size
        rows = max(256, 2 * size.batch)
        targets = write_targets(folder / "targets", size.latent_shape, tars=4, members=2, rows=rows)
        self._ours = OpenRound(size, targets, folder / "deepspeed")
        self._torch = OpenRound(size, targets, folder / "torch", deepspeed=False)
        device = self._ours.engine.device
        data = in_memory(*self._ours.source.at(0, 8 * rows))
        self._data = {name: column.contiguous().to(device) for name, column in data.items()}
        self._plain = size.module().to(device)
        self._folder = folder

    def compare(self, settings: Settings) -> list[Row]:
        """The table of one size."""
        arms: dict[str, Arm] = {
            _PLAIN: plain_loop(self._plain, self._data, self._size.batch, fused=False),
            _FUSED: plain_loop(
                self._size.module().to(self._ours.engine.device),
                self._data,
                self._size.batch,
                fused=True,
            ),
            _TORCH: self._ours_in_torch,
            _OURS: self._ours.updates,
        }
        demo = self._size.name == "demo"
        timings = interleave(
            arms,
            blocks=settings.count(9 if demo else 7, 2),
            per_block=settings.count(20 if demo else 1, 2),
            warm=settings.count(5 if demo else 2, 1),
        )
        return [self._row(name, timings) for name in arms]

    def _ours_in_torch(self, count: int) -> None:
        self._torch.updates(count)

    def _row(self, name: str, timings: dict[str, Timing]) -> Row:
        size, timing = self._size, timings[name]
        fastest = min((_PLAIN, _FUSED), key=lambda each: timings[each].seconds)
        ratio = timing.over(timings[fastest])
        target = at_most(_LIMITS[size.name], ratio) if name == _OURS else {}
        return Row(
            name=f"{size.name}/{name}",
            what=f"{size.name}: {name}; ratio to the faster plain loop",
            value=1e3 * timing.seconds,
            unit="ms an update",
            ratio=ratio,
            details={
                **timing.details(timings[fastest]),
                "parameters": num_parameters(self._plain),
                "batch": size.batch,
                "latent_shape": list(size.latent_shape),
                "block_channels": list(size.block_channels),
            },
            **target,
        )

    def take_apart(self, updates: int) -> list[Row]:
        """What one update is made of, beside the same part of the plain loop."""
        ours, plain = self._parts_of_ours(updates), self._parts_of_plain(updates)
        rows = []
        for part, seconds in ours.items():
            theirs = plain.get(part)
            beside = "none in the plain loop" if theirs is None else f"plain {1e3 * theirs:.3g} ms"
            rows.append(
                Row(
                    name=f"{self._size.name}/part/{part}",
                    what=f"{self._size.name}, of one update: {part} ({beside})",
                    value=1e3 * seconds,
                    unit="ms",
                    ratio=seconds / theirs if theirs else None,
                    details={"share": round(seconds / sum(ours.values()), 4)},
                )
            )
        return rows

    def _parts_of_ours(self, updates: int) -> dict[str, float]:
        # the statements of train_round, in its order
        ours, engine, watch = self._ours, self._ours.engine, Stopwatch()
        tracker = JsonlTracker(self._folder / "parts.jsonl", 0)
        for update in range(updates):
            watch.begin()
            draws, target = ours.source.at(update * ours.batch, ours.batch)
            watch.lap("read")
            loss = ours.method.loss(ours.student, draws, target)
            watch.lap("forward and loss")
            mean = float(engine.mean(loss.detach()))
            watch.lap("mean over ranks")
            engine.backward(loss)
            watch.lap("backward")
            norm = engine.step()
            watch.lap("clip and step")
            tracker.log({"train/loss": mean, "train/grad_norm": norm}, samples_seen=update)
            watch.lap("log")
        parts = watch.medians()
        return {**parts, "log": parts["log"] / LOG_EVERY}

    def _parts_of_plain(self, updates: int) -> dict[str, float]:
        model, watch, batch = self._plain, Stopwatch(), self._size.batch
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
        order = torch.randperm(len(self._data["t"]))
        for update in range(updates):
            watch.begin()
            first = update * batch % (len(order) - batch + 1)
            rows = order[first : first + batch]
            drawn = {name: column[rows] for name, column in self._data.items()}
            watch.lap("read")
            loss = loss_of(model, drawn)
            watch.lap("forward and loss")
            optimizer.zero_grad()
            loss.backward()
            watch.lap("backward")
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            watch.lap("clip and step")
        return watch.medians()

    def write_profiles(self, output: Path, updates: int) -> None:
        """What Python and what torch do in an update, most expensive first."""
        python = cProfile.Profile()
        python.enable()
        self._ours.updates(updates)
        python.disable()
        text = io.StringIO()
        pstats.Stats(python, stream=text).sort_stats("tottime").print_stats(45)
        (output / "update-python.txt").write_text(text.getvalue(), encoding="utf-8")
        with profile(activities=[ProfilerActivity.CPU]) as found:
            self._ours.updates(max(1, updates // 4))
        table = found.key_averages().table(sort_by="self_cpu_time_total", row_limit=45)
        (output / "update-torch.txt").write_text(table, encoding="utf-8")
