"""Parity check of an export: stock diffusers, in its own process, must match our sampler."""

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
from pipeline.diffusion.ddim import sample
from pipeline.errors import BundleError, InfraError
from pipeline.models.assemble import load_denoiser
from pipeline.models.denoiser import Denoiser
from pipeline.models.stock.card import supported_steps, supported_weights
from pipeline.models.stock.stock_pipeline import STOCK, StockPipeline
from pipeline.tensors import Condition
from stages.export import stock_process
from stages.export.network_script import SCRIPT

TOLERANCE = 1e-4
"""Maximum of |ours - stock|, relative to the maximum of |ours|. Float32 rounding is 100 times
smaller; a wrong time, scheduler or w gives far more.
"""

TIMEOUT = 3600.0
NOISE = 0
"""Seed of the starting noise."""
PROMPTS = ("0", "1")  # prompts for a text encoder, class numbers for DiT


@dataclass(frozen=True)
class Difference:
    """Relative difference between stock diffusers and our sampler at (w, steps)."""

    w: float
    steps: int
    value: float


def check_parity(
    directory: Path,
    bundle: Path,
    components: Path,
    *,
    ws: Sequence[float],
    steps: Sequence[int],
    device: torch.device | None = None,
) -> list[Difference]:
    """Compare samples of stock diffusers from an exported directory with those of our sampler.

    Args:
        directory: output of `export`.
        bundle: the exported bundle.
        components: the exported components.
        ws: guidance weights, each checked at every number of steps.
        steps: numbers of steps.
        device: device of both samplers; default: a GPU if there is one.

    Returns:
        The difference for each w and number of steps.

    Raises:
        BundleError: the directory does not load, or the samples differ.
        InfraError: the process exceeded one hour.
    """
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    manifest = read_manifest(bundle)
    stock = STOCK.get(manifest.pipeline or "")(components, device)
    settings = [(w, count) for w in ws for count in steps]
    calls = [stock.arguments(manifest, PROMPTS, steps=count, w=w) for w, count in settings]
    stock_samples = _sample_stock(directory, calls, stock.pictures(manifest), device)
    our_samples = sample_ours(bundle, stock, settings)
    return [
        Difference(w, count, _compare(directory, (w, count), ours, theirs))
        for (w, count), ours, theirs in zip(settings, our_samples, stock_samples, strict=True)
    ]


def check_supported(directory: Path, bundle: Path, components: Path) -> list[Difference]:
    """Run `check_parity` at every w and number of steps on the model card."""
    manifest = read_manifest(bundle)
    stock = STOCK.get(manifest.pipeline or "")(components)
    weights = supported_weights(manifest, stock)
    return check_parity(directory, bundle, components, ws=weights, steps=supported_steps(manifest))


def check_script(directory: Path, bundle: Path) -> list[Difference]:
    """Compare samples of an exported script with ours, at the ends and the middle of w.

    Raises:
        BundleError: the script fails, or the samples differ.
        InfraError: the process exceeded one hour.
    """
    manifest, denoiser = load_denoiser(bundle)
    w = manifest.w
    if w is None:
        raise ValueError("manifest.w is None; a student was trained with a distribution of w")
    labels = [0, manifest.num_classes - 1]
    settings = [
        (each, count)
        for each in dict.fromkeys((w.min, w.middle, w.max))
        for count in supported_steps(manifest)
    ]
    calls = [{"labels": labels, "steps": count, "w": each} for each, count in settings]
    z_1 = torch.randn(
        len(labels), *manifest.latent_shape, generator=torch.Generator().manual_seed(NOISE)
    )
    condition = {"label": torch.tensor(labels)}
    ours = _sample_at(denoiser, z_1, condition, settings)
    theirs = _sample_stock(directory, calls, {}, torch.device("cpu"), SCRIPT)
    return [
        Difference(w, count, _compare(directory, (w, count), mine.clamp(-1, 1), their))
        for (w, count), mine, their in zip(settings, ours, theirs, strict=True)
    ]


@torch.no_grad()
def sample_ours(
    bundle: Path, stock: StockPipeline, settings: Sequence[tuple[float, int]]
) -> list[Tensor]:
    """Return our samples at each (w, steps), in the pipeline's output format.

    The noise has the seed `NOISE` and is drawn on the CPU, as diffusers does.
    """
    manifest, denoiser = load_denoiser(bundle, stock.device)
    condition = stock.condition(manifest, PROMPTS)
    noise = torch.Generator().manual_seed(NOISE)
    z_1 = torch.randn(len(PROMPTS), *manifest.latent_shape, generator=noise).to(stock.device)

    drawn = _sample_at(denoiser, z_1, condition, settings)
    return [stock.returned(samples).cpu() for samples in drawn]


@torch.no_grad()
def _sample_at(
    denoiser: Denoiser, z_1: Tensor, condition: Condition, settings: Sequence[tuple[float, int]]
) -> list[Tensor]:
    """Return the samples of this noise at each (w, steps)."""

    def sample_at(w: float, steps: int) -> Tensor:
        weights = torch.full((len(z_1),), w, dtype=torch.float64, device=z_1.device)
        return sample(
            z_1,
            denoiser.schedule,
            steps,
            lambda z_t, level: denoiser(z_t, level, condition, weights),
        )

    return [sample_at(w, steps) for w, steps in settings]


def _sample_stock(
    directory: Path,
    calls: Sequence[dict[str, Any]],
    pictures: dict[str, Tensor],
    device: torch.device,
    script: str | None = None,
) -> list[Tensor]:
    """Return samples of stock diffusers, from a process that does not import this project.

    `script` is the directory's own sampling script; None to call its pipeline.
    """
    work = {
        "directory": str(directory.resolve()),
        "device": str(device),
        "seed": NOISE,
        "script": script,
        "calls": {str(place): call for place, call in enumerate(calls)},
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "calls.json").write_text(json.dumps(work), encoding="utf-8")
        save_file(pictures, folder / "pictures.safetensors")
        _run(directory, [sys.executable, "-I", stock_process.__file__, name])
        samples = load_file(folder / "drawn.safetensors")
    return [samples[str(place)] for place in range(len(calls))]


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
            f"{directory}: parity check timed out after {TIMEOUT:g} s; run the command again on a "
            "faster or less busy machine"
        ) from None
    if ended.returncode:
        raise BundleError(
            f"{directory}: parity check failed, stock diffusers cannot load or sample it: "
            f"{_last_line(ended.stderr)}; nothing was exported. Check that the components belong "
            "to the network"
        )


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no error output"


def _compare(
    directory: Path, settings: tuple[float, int], our_samples: Tensor, stock_samples: Tensor
) -> float:
    w, steps = settings
    where = f"{directory}: parity check failed at w = {w:g}, {steps} step(s)"
    if our_samples.shape != stock_samples.shape:
        raise BundleError(
            f"{where}: stock diffusers returns shape {tuple(stock_samples.shape)}, our sampler "
            f"{tuple(our_samples.shape)}; nothing was exported. Check that the components belong "
            "to the network"
        )
    difference = ((our_samples - stock_samples).abs().max() / our_samples.abs().max()).item()
    if not difference <= TOLERANCE:  # NaN fails too
        raise BundleError(
            f"{where}: stock diffusers and our sampler differ by {difference:.2g} (relative; "
            f"tolerance {TOLERANCE:g}); nothing was exported. Check that scheduler, w and "
            "components belong to the network"
        )
    return difference
