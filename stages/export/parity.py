"""The export gate: stock diffusers, in a process of its own, draws what our sampler draws."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline.bundle import read_manifest
from pipeline.diffusion.solver import sample
from pipeline.errors import BundleError, InfraError
from pipeline.models.assemble import load_denoiser
from pipeline.models.stock.card import steps_offered, weights_told
from pipeline.models.stock.stock_pipeline import STOCK, StockPipeline
from stages.export import stock_process

TOLERANCE = 1e-4
"""Largest |ours - stock| over the largest |ours|: rounding of float32 is 100 times below it, and a
wrong time, scheduler or w is far above."""

TIMEOUT = 3600.0
NOISE = 0
"""Seed of the starting noise."""
PROMPTS = ("0", "1")  # words to a text encoder, numbers of classes to DiT


@dataclass(frozen=True)
class Difference:
    """How far stock diffusers is from our sampler, relative to the largest value, at (w, steps)."""

    w: float
    steps: int
    value: float


def check_export(
    directory: Path,
    bundle: Path,
    components: Path,
    *,
    ws: Sequence[float],
    steps: Sequence[int],
    device: torch.device | None = None,
) -> list[Difference]:
    """Have an exported directory drawn from by stock diffusers, and compare with our sampler.

    Args:
        directory: what `export` wrote.
        bundle: what it was written from.
        components: the rest of what it was written from.
        ws: guidance weights, each to be checked at every number of steps.
        steps: numbers of steps.
        device: where both draw; a GPU if there is one.

    Returns:
        The difference for each w and number of steps.

    Raises:
        BundleError: the directory does not load, or the samples differ.
        InfraError: the process did not come back in an hour.
    """
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    manifest = read_manifest(bundle)
    stock = STOCK.get(manifest.pipeline or "")(components, device)
    asked = [(w, count) for w in ws for count in steps]
    calls = [stock.arguments(manifest, PROMPTS, steps=count, w=w) for w, count in asked]
    theirs = _draw_afresh(directory, calls, stock.pictures(manifest), device)
    ours = draw_here(bundle, stock, asked)
    return [
        Difference(w, count, _compare(directory, (w, count), here, there))
        for (w, count), here, there in zip(asked, ours, theirs, strict=True)
    ]


def check_offered(directory: Path, bundle: Path, components: Path) -> list[Difference]:
    """`check_export` at every w and number of steps that the model card offers."""
    manifest = read_manifest(bundle)
    stock = STOCK.get(manifest.pipeline or "")(components)
    weights = weights_told(manifest, stock)
    return check_export(directory, bundle, components, ws=weights, steps=steps_offered(manifest))


@torch.no_grad()
def draw_here(
    bundle: Path, stock: StockPipeline, asked: Sequence[tuple[float, int]]
) -> list[Tensor]:
    """What our sampler draws at each (w, steps), in the form in which the pipeline returns it.

    The noise is that of `NOISE`, a seed, drawn on the CPU as diffusers draws it.
    """
    manifest, denoiser = load_denoiser(bundle, stock.device)
    condition = stock.condition(manifest, PROMPTS)
    noise = torch.Generator().manual_seed(NOISE)
    z_1 = torch.randn(len(PROMPTS), *manifest.latent_shape, generator=noise).to(stock.device)

    def draw(w: float, steps: int) -> Tensor:
        told = torch.full((len(z_1),), w, dtype=torch.float64, device=stock.device)
        drawn = sample(
            z_1, denoiser.schedule, steps, lambda z_t, level: denoiser(z_t, level, condition, told)
        )
        return stock.returned(drawn).cpu()

    return [draw(w, steps) for w, steps in asked]


def _draw_afresh(
    directory: Path,
    calls: Sequence[dict[str, Any]],
    pictures: dict[str, Tensor],
    device: torch.device,
) -> list[Tensor]:
    """What stock diffusers draws in a process that knows nothing of this project."""
    work = {
        "directory": str(directory.resolve()),
        "device": str(device),
        "seed": NOISE,
        "calls": {str(place): call for place, call in enumerate(calls)},
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "calls.json").write_text(json.dumps(work), encoding="utf-8")
        save_file(pictures, folder / "pictures.safetensors")
        _run(directory, [sys.executable, "-I", stock_process.__file__, name])
        drawn = load_file(folder / "drawn.safetensors")
    return [drawn[str(place)] for place in range(len(calls))]


def _run(directory: Path, command: list[str]) -> None:
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    try:
        ended = subprocess.run(
            command,
            env={**os.environ, **offline},
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise InfraError(
            f"stock diffusers did not finish drawing from {directory} in {TIMEOUT:g} s; run the "
            "same command again on a faster or less busy machine"
        ) from None
    if ended.returncode:
        raise BundleError(
            f"stock diffusers cannot draw from {directory}: {_last_line(ended.stderr)}; it was not "
            "exported"
        )


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it ended without a word"


def _compare(directory: Path, asked: tuple[float, int], ours: Tensor, theirs: Tensor) -> float:
    w, steps = asked
    where = f"{directory}: at w = {w:g} in {steps} step(s) stock diffusers"
    if ours.shape != theirs.shape:
        raise BundleError(
            f"{where} returns shape {tuple(theirs.shape)} and our sampler {tuple(ours.shape)}; "
            "it was not exported"
        )
    difference = ((ours - theirs).abs().max() / ours.abs().max()).item()
    if not difference <= TOLERANCE:  # also where it is not a number
        raise BundleError(
            f"{where} draws something else than our sampler (relative difference "
            f"{difference:.2g}, allowed {TOLERANCE:g}); it was not exported: scheduler, w and "
            "components have to be those of the network"
        )
    return difference
