"""Check of an adopted teacher: is it a few-step model already? Nothing in its files has to tell.

A network that was distilled to N steps gives samples as varied as the data in N steps, and far too
varied ones in many steps, because every step then makes the jump of a longer one. A teacher that is
not distilled is the other way round: blurred in few steps, right in many.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from infra.launch import run_jobs
from infra.ray.cluster import cluster
from pipeline.bundle import Manifest, read_manifest
from pipeline.data.latents import open_samples
from pipeline.diffusion.ddim import sample
from pipeline.ledger import Artifact
from pipeline.models.assemble import load_denoiser
from pipeline.randomness import RowRandom
from pipeline.tensors import Latent
from pipeline.wording import format_count
from stages.workspace import Workspace

FEW = (1, 2, 4)
MANY = (16, 20, 15, 12, 10, 8)
"""Candidates for many steps, of which the first that the schedule supports is used."""

_ROWS = 48
_BATCH = 8  # as large latents as the memory of a training worker has to hold
_LEAST = 1e-9  # of a spread, for data that are all equal
_NEAR = math.log(1.2)  # a student of few steps is slightly blurred

RunJobs = Callable[[dict[str, Any], list[dict[str, Any]]], Iterator[dict[str, Any]]]


def few_step_notes(
    work: Workspace, samples: Artifact, bundle: Path, run: RunJobs | None = None
) -> list[str]:
    """Return a warning if a teacher is a few-step model already, else nothing.

    Args:
        work: the run.
        samples: training samples: latents if the teacher is a stock pipeline.
        bundle: the teacher.
        run: runs jobs of `open_worker`. Default: a worker of the profile.

    Raises:
        BundleError: the weights cannot be loaded.
        InfraError: the worker failed too often.
    """
    counts = step_counts(read_manifest(bundle))
    if counts is None:
        return []
    spec = {"bundle": str(bundle.resolve()), "data": str(work.ledger.locate(samples).resolve())}
    [result] = (run or _on_workers(work))(spec, [{"steps": list(counts)}])
    return notes_on(dict(zip(counts, result["spreads"], strict=True)))


def step_counts(manifest: Manifest) -> tuple[int, ...] | None:
    """Return the step counts to compare, ascending; None if the schedule supports too few."""
    few = [count for count in FEW if manifest.schedule.holds(count)]
    many = next((count for count in MANY if manifest.schedule.holds(count)), None)
    return (*few, many) if few and many else None


def notes_on(spreads: Mapping[int, float]) -> list[str]:
    """Return a warning if few steps give the variation of the data, and many steps too much.

    Args:
        spreads: standard deviation of the samples over that of the data, by number of steps.
    """
    many = max(spreads)
    if not math.log(max(spreads[many], _LEAST)) >= _NEAR:
        return []
    for few in sorted(spreads)[:-1]:
        if abs(math.log(max(spreads[few], _LEAST))) <= _NEAR:
            return [
                f"The teacher seems to be distilled to {format_count(few, 'step')} already: its "
                f"samples vary {spreads[few]:.2f} times as much as the data in "
                f"{format_count(few, 'step')}, but {spreads[many]:.2f} times in {many}. Its "
                "students learn from many steps, so use the teacher that it was distilled from"
            ]
    return []


def open_worker(spec: dict[str, Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return a function that measures the spread of a teacher's unguided samples by steps."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    manifest, denoiser = load_denoiser(Path(spec["bundle"]), device)
    data = open_samples(Path(spec["data"]), "train")
    rows = np.linspace(0, len(data) - 1, min(_ROWS, len(data))).astype(np.int64)
    w = 0.0 if manifest.w is None or manifest.w.allows(0.0) else manifest.w.min

    @torch.inference_mode()
    def draw(steps: int, first: int) -> Latent:
        part = rows[first : first + _BATCH]
        condition = {name: value.to(device) for name, value in data.read(part).condition.items()}
        weight = torch.full((len(part),), w, dtype=torch.float64, device=device)
        noise = RowRandom((0,), first, len(part)).normal("z_1", *manifest.latent_shape)
        return sample(
            noise.to(device),
            denoiser.schedule,
            steps,
            lambda z_t, level: denoiser(z_t, level, condition, weight),
        ).cpu()

    def serve(job: dict[str, Any]) -> dict[str, Any]:
        of_data = max(_spread(data.read(rows).x), _LEAST)
        firsts = range(0, len(rows), _BATCH)
        drawn = (torch.cat([draw(steps, first) for first in firsts]) for steps in job["steps"])
        return {"spreads": [_spread(x) / of_data for x in drawn]}

    return serve


def _spread(x: Latent) -> float:
    """Compute the standard deviation over samples, a root mean square over values."""
    return float(x.flatten(1).double().var(0).mean().sqrt())


def _on_workers(work: Workspace) -> RunJobs:
    def run(spec: dict[str, Any], jobs: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        with cluster(work.profile, work.layout.logs):
            yield from run_jobs("stages.teacher.step_check:open_worker", spec, jobs, work.profile)

    return run
