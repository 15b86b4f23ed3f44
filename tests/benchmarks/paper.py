"""What distilling Stable Diffusion 1.5 would cost, on paper: counted work over an assumed speed.

Counted: the multiplications of the real network's layers, from its published shape, by torch's
counter on tensors without storage. Assumed, and named in every row's details:

- an H100 or H200 makes 989e12 dense bfloat16 operations a second (NVIDIA's data sheet), of which
  training and sampling reach 40 %, our guess (PaLM, arXiv:2204.02311, reports 46 % of its own
  peak for the training of a large transformer);
- a backward pass costs two forward passes;
- ZeRO-1 moves each bfloat16 gradient and weight once, 2 + 2 bytes a parameter, at 150 GB/s a GPU
  inside a machine of 8 and 40 GB/s across machines (400 Gbit/s a GPU), and nothing overlaps.
"""

from dataclasses import dataclass

import torch
from diffusers import UNet2DConditionModel
from torch.utils.flop_counter import FlopCounterMode

from tests.benchmarks.rows import Row

_PEAK = 989e12
_SHARE = 0.4
_BATCH = 2048
_LATENT = (4, 64, 64)
_RECORD_BYTES = 2 * 2 * 4 * 64 * 64 + 5 * 8
_INSIDE, _ACROSS = 150e9, 40e9
_UPDATES = 10_000


@dataclass(frozen=True)
class Network:
    """A network as work: parameters, and operations of one forward pass of one sample."""

    parameters: int
    forward: float


def stable_diffusion_unet() -> Network:
    """The U-Net of Stable Diffusion 1.5 at 64x64 latents, from the defaults of diffusers' class.

    Source: Rombach et al. 2021, arXiv:2112.10752; `runwayml/stable-diffusion-v1-5`, unet config.
    """
    with torch.device("meta"):
        module = UNet2DConditionModel(sample_size=64, cross_attention_dim=768).eval()
        inputs = {
            "sample": torch.empty(1, *_LATENT),
            "timestep": torch.zeros(1),
            "encoder_hidden_states": torch.empty(1, 77, 768),
        }
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            module(**inputs)
    parameters = sum(parameter.numel() for parameter in module.parameters())
    return Network(parameters=parameters, forward=float(counter.get_total_flops()))


def on_paper() -> list[Row]:
    """Rates on 8 and on 64 GPUs, every row marked as on paper."""
    network = stable_diffusion_unet()
    rows = [
        Row(
            name="paper/network",
            what=f"ON PAPER, SD-1.5: U-Net of {network.parameters / 1e6:.0f}M parameters, one "
            "forward pass at 64x64 latents, counted",
            value=network.forward / 1e12,
            unit="TFLOP",
        )
    ]
    for gpus in (8, 64):
        rows += _on(gpus, network)
    return rows


def _on(gpus: int, network: Network) -> list[Row]:
    speed = gpus * _PEAK * _SHARE
    targets = speed / (2 * network.forward)
    compute = 3 * network.forward * _BATCH / speed
    moved = 4 * network.parameters * (gpus - 1) / gpus / (_INSIDE if gpus <= 8 else _ACROSS)
    update = compute + moved
    days = _UPDATES * (update + _BATCH / targets) / 86400
    assumed = {
        "gpus": gpus,
        "peak_flops_each": _PEAK,
        "share_reached": _SHARE,
        "global_batch": _BATCH,
        "bytes_a_second_each": _INSIDE if gpus <= 8 else _ACROSS,
        "compute_s": round(compute, 4),
        "communication_s": round(moved, 4),
    }
    numbers = {
        "targets": (targets, "targets/s", "targets, two forwards each (stage 1 or a halving)"),
        "writing": (targets * _RECORD_BYTES / 1e9, "GB/s", "writing those targets in float16"),
        "update": (update, "s", f"an update of batch {_BATCH}, ZeRO-1, bfloat16"),
        "round": (
            24 * days,
            "hours",
            f"a round of {_UPDATES:,} updates, each target made for it and used once",
        ),
    }
    return [
        Row(
            name=f"paper/{gpus}/{name}",
            what=f"ON PAPER, SD-1.5 on {gpus} GPUs: {what}",
            value=value,
            unit=unit,
            details=assumed,
        )
        for name, (value, unit, what) in numbers.items()
    ]
