"""Pre-generation in steady state against the teacher's bare forward passes.

The product's side is a worker's whole job: read samples, draw, ask the teacher, check, write a tar
with hashes, sync it to disk, commit it. The yardstick is the network alone on random tensors, in
the same batches. A guided evaluation is one batch of condition and null condition.
"""

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.data.shards.dataset_info import read_info
from pipeline.training.round_plan import RoundPlan
from stages.rounds.target_worker import CHUNK, TargetWorker
from stages.rounds.targets import JOBS_AT_ONCE, shard_jobs
from tests.benchmarks.rows import Row, Settings, at_least
from tests.benchmarks.sizes import DEMO, Size, target_spec, write_bundle, write_samples
from tests.benchmarks.timing import Arm, Timing, interleave, repeated
from tests.support.cases import RECIPES, read_recipe

LEAST = 0.95
BATCHES = (16, 32, 64, 128, 256, 512)
_SAMPLES = 1331  # nine tenths of it train, as many as the demo's digits


def measure(settings: Settings) -> list[Row]:
    """Stage 1 and a halving round, then the forward pass by batch."""
    size, scratch = DEMO, settings.scratch
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    data = write_samples(scratch / "data", size.latent_shape, settings.count(_SAMPLES, 111))
    rows = []
    for role, calls in (("teacher", 1), ("student", 2)):
        bundle = write_bundle(scratch / role, size, role)
        worker = _Worker(scratch, size.plan(guidance=role == "teacher"), data, bundle)
        bare = BareForward(size, role, device)
        timings = interleave(
            {
                "bare": repeated(
                    lambda bare=bare, calls=calls, n=worker.count: bare.pass_over(n, calls)
                ),
                "worker": worker.serve,
            },
            blocks=settings.count(9, 2),
            per_block=settings.count(4, 1),
        )
        rows += _rows(role, worker.count, timings)
    return rows + by_batch(size, device, settings)


def _rows(role: str, count: int, timings: dict[str, Timing]) -> list[Row]:
    asked = {
        "teacher": "stage 1 (cond and uncond in one forward)",
        "student": "a halving round (two forwards)",
    }[role]
    ratio = timings["bare"].over(timings["worker"])
    return [
        Row(
            name=f"{role}/bare",
            what=f"demo, {asked}: the network alone",
            value=count / timings["bare"].seconds,
            unit="tuples/s",
            details=timings["bare"].details(),
        ),
        Row(
            name=f"{role}/worker",
            what=f"demo, {asked}: a worker's whole job; ratio to the network alone",
            value=count / timings["worker"].seconds,
            unit="tuples/s",
            ratio=ratio,
            details={**timings["worker"].details(timings["bare"]), "rows": count, "chunk": CHUNK},
            **at_least(LEAST, ratio),
        ),
    ]


class _Worker:
    """A worker of stage `pregenerate`, given one of the stage's own jobs after another."""

    def __init__(self, run_dir: Path, plan: RoundPlan, data: Path, teacher: Path) -> None:
        self._worker = TargetWorker(target_spec(run_dir, plan, data, teacher))
        (digits,) = (path for path in RECIPES if path.stem == "digits")
        self._job = shard_jobs(
            read_recipe(digits), plan, read_info(data).splits["train"], "benchmark"
        )[0]
        self._names = (f"{teacher.name}-{number:05d}" for number in itertools.count())
        self.count: int = self._job["count"]

    def serve(self, jobs: int) -> None:
        """Do `jobs` jobs, as many at once as the stage gives a worker."""
        names = [next(self._names) for _ in range(jobs)]
        with ThreadPoolExecutor(JOBS_AT_ONCE) as threads:
            list(threads.map(self._serve_one, names))

    def _serve_one(self, name: str) -> dict[str, Any]:
        return self._worker.serve({**self._job, "key": name, "path": name})


class BareForward:
    """A network and random tensors; nothing is computed but its forward passes."""

    def __init__(self, size: Size, role: str, device: torch.device) -> None:
        self._module = size.module(role).eval().requires_grad_(requires_grad=False).to(device)
        self._shape = size.latent_shape
        self._device = device
        self._guided = role == "teacher"
        self._inputs: dict[int, tuple[Any, ...]] = {}

    def pass_over(self, count: int, calls: int = 1) -> None:
        """As many evaluations as `count` tuples cost, in the product's chunks."""
        for chunk in np.array_split(np.arange(count), -(-count // CHUNK)):
            for _ in range(calls):
                self.forward(len(chunk))

    @torch.inference_mode()
    def forward(self, tuples: int) -> None:
        """One forward pass for a batch of tuples."""
        z, timestep, label, w = self._inputs_of(2 * tuples if self._guided else tuples)
        self._module(
            z,
            timestep,
            encoder_hidden_states=None,
            class_labels=label,
            timestep_cond=w,
            return_dict=False,
        )

    def _inputs_of(self, batch: int) -> tuple[Any, ...]:
        if batch not in self._inputs:
            w = None if self._guided else torch.randn(batch, 64, device=self._device)
            self._inputs[batch] = (
                torch.randn(batch, *self._shape, device=self._device),
                torch.full((batch,), 500.0, device=self._device),
                torch.zeros(batch, dtype=torch.int64, device=self._device),
                w,
            )
        return self._inputs[batch]


def by_batch(size: Size, device: torch.device, settings: Settings) -> list[Row]:
    """How many tuples a second one forward pass answers, by the tuples in it."""
    batches = BATCHES[:2] if settings.quick else BATCHES
    rows = []
    for role, calls in (("teacher", "guided"), ("student", "student")):
        bare = BareForward(size, role, device)
        arms: dict[int, Arm] = {batch: _pass(bare, batch, max(batches)) for batch in batches}
        timings = interleave(
            {str(batch): arm for batch, arm in arms.items()},
            blocks=settings.count(7, 1),
            per_block=settings.count(2, 1),
        )
        best = min(timings.values(), key=lambda each: each.seconds)
        rows += [
            Row(
                name=f"batch/{role}/{batch}",
                what=f"demo, {calls} forward of {batch} tuples; ratio to the best batch",
                value=max(batches) / timings[str(batch)].seconds,
                unit="tuples/s",
                ratio=best.over(timings[str(batch)]),
                details={**timings[str(batch)].details(), "is_the_product's": batch == CHUNK},
            )
            for batch in batches
        ]
    return rows


def _pass(bare: BareForward, batch: int, tuples: int) -> Callable[[int], None]:
    """An arm that answers the same number of tuples whatever the batch."""

    def arm(count: int) -> None:
        for _ in range(count * tuples // batch):
            bare.forward(batch)

    return arm
