"""Pregeneration in steady state against the teacher's bare forward passes."""

import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.data.shards.dataset_info import read_info
from pipeline.training.round_plan import RoundPlan
from stages.rounds.target_worker import CHUNK, TargetWorker
from stages.rounds.targets import JOBS_AT_ONCE, shard_jobs
from tests.benchmarks.harness import Arm, Row, Settings, at_least, interleave, repeated
from tests.benchmarks.sizes import DEMO, W_DIM, target_spec, write_bundle, write_samples

LEAST = 0.95
_SAMPLES = 1331  # nine tenths of it train, as many as the demo's digits
_KINDS = {
    "teacher": "stage 1 (cond and uncond in one forward)",
    "student": "a halving round (two forwards)",
}


def measure(settings: Settings) -> list[Row]:
    """Pregeneration in steady state against the teacher's bare forward passes.

    The product's side is a worker's whole job: read samples, draw, evaluate the teacher, check,
    write a tar with hashes, sync it to disk, commit it. The yardstick is the network alone on
    random tensors, in the same batches.
    """
    scratch = settings.scratch
    data = write_samples(scratch / "data", DEMO.latent_shape, settings.count(_SAMPLES, 111))
    rows = []
    for role, kind in _KINDS.items():
        bundle = write_bundle(scratch / role, DEMO, role)
        worker = _Worker(scratch, DEMO.plan(guidance=role == "teacher"), data, bundle)
        timings = interleave(
            {"bare": _bare(role, worker.count), "worker": worker.serve},
            blocks=settings.count(9, 2),
            per_block=settings.count(4, 1),
        )
        ratio = timings["bare"].over(timings["worker"])
        for name, who in (("bare", "the network alone"), ("worker", "a worker's whole job")):
            judged = {"ratio": ratio, **at_least(LEAST, ratio)} if name == "worker" else {}
            rows.append(
                Row(
                    name=f"{role}/{name}",
                    what=f"demo, {kind}: {who}",
                    value=worker.count / timings[name].seconds,
                    unit="tuples/s",
                    details=timings[name].details(),
                    **judged,
                )
            )
    return rows


class _Worker:
    """A worker of stage `targets` that runs the stage's own jobs."""

    def __init__(self, run_dir: Path, plan: RoundPlan, data: Path, teacher: Path) -> None:
        self._worker = TargetWorker(target_spec(run_dir, plan, data, teacher))
        self._job = shard_jobs(plan, read_info(data).splits["train"], "benchmark")[0]
        self._names = (f"{teacher.name}-{number:05d}" for number in itertools.count())
        self.count: int = self._job["count"]

    def serve(self, jobs: int) -> None:
        """Run `jobs` jobs, with the stage's number of concurrent jobs per worker."""
        names = [next(self._names) for _ in range(jobs)]
        with ThreadPoolExecutor(JOBS_AT_ONCE) as threads:
            list(threads.map(self._serve_one, names))

    def _serve_one(self, name: str) -> dict[str, Any]:
        return self._worker.serve({**self._job, "key": name, "path": name})


def _bare(role: str, count: int) -> Arm:
    """Run the evaluations of `count` tuples, in the product's chunks, on random tensors."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    module = DEMO.module(role).eval().requires_grad_(requires_grad=False).to(device)
    guided = role == "teacher"
    calls = []
    for chunk in np.array_split(np.arange(count), -(-count // CHUNK)):
        batch = len(chunk) * (2 if guided else 1)
        call = {
            "sample": torch.randn(batch, *DEMO.latent_shape, device=device),
            "timestep": torch.full((batch,), 500.0, device=device),
            "encoder_hidden_states": None,
            "class_labels": torch.zeros(batch, dtype=torch.int64, device=device),
            "timestep_cond": None if guided else torch.randn(batch, W_DIM, device=device),
        }
        calls += [call] if guided else [call, call]

    @torch.inference_mode()
    def evaluate() -> None:
        for call in calls:
            module(**call, return_dict=False)

    return repeated(evaluate)
