"""Stock pipelines sample; every call of the student equals our own call.

The pipelines are whole and their own: what they pass to the network is overheard, and the family
is asked the same.
"""

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DiffusionPipeline,
    DiTPipeline,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    StableDiffusion3Pipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
)
from torch import Tensor, nn

from pipeline.models.assemble import family_of
from pipeline.models.mmdit.mmdit import unpack
from pipeline.tensors import Condition
from tests.support.cases import NETWORKS, condition_of, teacher_manifest

COUNT, STEPS, W = 2, 4, 2.5
"""Four steps shifted by 3 are at t = 1, .9, .75, .5: 1000 t is exact, and Flux is asked at t."""

PIXELS = 16
"""The autoencoder halves once, to latents of 8 x 8."""


def autoencoder() -> AutoencoderKL:
    torch.manual_seed(1)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        latent_channels=4,
        shift_factor=0.0,
    ).eval()


def trailing() -> DDIMScheduler:
    return DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        timestep_spacing="trailing",
        clip_sample=False,
        steps_offset=1,
    )


def without_encoders(
    kind: type[DiffusionPipeline], scheduler: Any, network: nn.Module, **more: Any
) -> DiffusionPipeline:
    """A pipeline of that kind whose prompts are encoded already."""
    known = inspect.signature(kind.__init__).parameters
    absent = [name for name in known if name.startswith(("text_encoder", "tokenizer"))]
    part = "unet" if "unet" in known else "transformer"
    parts = dict.fromkeys(absent) | {part: network, "scheduler": scheduler, "vae": autoencoder()}
    return kind(**parts, **more)


UNCHECKED = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}


def stable_diffusion(network: nn.Module, condition: Condition) -> None:
    pipe = without_encoders(StableDiffusionPipeline, trailing(), network, **UNCHECKED)
    run(pipe, prompt_embeds=condition["text"], guidance_scale=1 + W)


def inpaint(network: nn.Module, condition: Condition) -> None:
    pipe = without_encoders(StableDiffusionInpaintPipeline, trailing(), network, **UNCHECKED)
    picture = torch.rand(COUNT, 3, PIXELS, PIXELS, generator=torch.Generator().manual_seed(3))
    mask = (picture[:, :1] > 0.5).float()
    images = {"image": picture, "mask_image": mask}
    run(pipe, prompt_embeds=condition["text"], guidance_scale=1 + W, **images)


def stable_diffusion_xl(network: nn.Module, condition: Condition) -> None:
    pipe = without_encoders(StableDiffusionXLPipeline, trailing(), network, add_watermarker=False)
    sizes = {"original_size": (20, 24), "crops_coords_top_left": (1, 2)}
    run(pipe, **embeds(condition), **sizes, guidance_scale=1 + W)


def stable_diffusion_3(network: nn.Module, condition: Condition) -> None:
    shifted = FlowMatchEulerDiscreteScheduler(shift=3.0)
    pipe = without_encoders(StableDiffusion3Pipeline, shifted, network)
    run(pipe, **embeds(condition), guidance_scale=1.0)


def flux(network: nn.Module, condition: Condition) -> None:
    shifted = FlowMatchEulerDiscreteScheduler(shift=3.0)
    run(without_encoders(FluxPipeline, shifted, network), **embeds(condition), guidance_scale=1 + W)


def embeds(condition: Condition) -> dict[str, Tensor]:
    return {"prompt_embeds": condition["text"], "pooled_prompt_embeds": condition["pooled"]}


def dit(network: nn.Module, condition: Condition) -> None:
    pipe = DiTPipeline(transformer=network, vae=autoencoder(), scheduler=trailing())
    pipe.set_progress_bar_config(disable=True)
    pipe(class_labels=condition["label"].tolist(), num_inference_steps=STEPS, guidance_scale=1.0)


def run(pipe: DiffusionPipeline, **arguments: Any) -> None:
    pipe.set_progress_bar_config(disable=True)
    size = {"height": PIXELS, "width": PIXELS}
    pipe(num_inference_steps=STEPS, output_type="latent", **size, **arguments)


PIPELINES: dict[str, Callable[[nn.Module, Condition], None]] = {
    "dit": dit,
    "mmdit-flux": flux,
    "mmdit-sd3": stable_diffusion_3,
    "unet-inpaint": inpaint,
    "unet-sdxl": stable_diffusion_xl,
    "unet-text": stable_diffusion,
}


def a_student(name: str) -> nn.Module:
    """A student whose output depends on all parameters, also on zero-initialised ones."""
    torch.manual_seed(0)
    kind = family_of(teacher_manifest(name))
    student = kind.student_of(kind.build(), (0.0, 4.0)).eval()
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return student


def overheard(name: str, student: nn.Module) -> list[tuple[dict[str, Any], Tensor]]:
    """Record the network's inputs and outputs in the stock pipeline."""
    heard: list[tuple[dict[str, Any], Tensor]] = []

    def listen(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        names = ("sample", "timestep") if "unet" in name else ("hidden_states",)
        heard.append((dict(zip(names, given, strict=False)) | named, output[0]))

    handle = student.register_forward_hook(listen, with_kwargs=True)
    PIPELINES[name](student, condition_of(teacher_manifest(name), COUNT))
    handle.remove()
    return heard


def as_ours(name: str, asked: dict[str, Any]) -> tuple[Tensor, Tensor, Condition]:
    """Convert the pipeline's inputs to ours: z_t, timestep, condition."""
    condition = condition_of(teacher_manifest(name), COUNT)
    timestep = asked["timestep"].float().expand(COUNT)
    match name:
        case "unet-inpaint":
            return asked["sample"][:, :4], timestep, condition | {"image": asked["sample"][:, 4:]}
        case "unet-sdxl":
            sizes = torch.tensor([[20.0, 24, 1, 2, PIXELS, PIXELS]]).expand(COUNT, 6)
            return asked["sample"], timestep, condition | {"time_ids": sizes}
        case "unet-text":
            return asked["sample"], timestep, condition
        case "mmdit-flux":
            return unpack(asked["hidden_states"], 8, 8), timestep * 1000, condition
        case _:
            return asked["hidden_states"], timestep, condition


def test_every_network_with_a_stock_pipeline_is_here() -> None:
    assert PIPELINES.keys() == set(NETWORKS) - {"gaussian", "unet"}


@torch.no_grad()
@pytest.mark.parametrize("name", PIPELINES)
def test_a_stock_pipeline_gets_the_same_outputs(name: str) -> None:
    student, kind = a_student(name), family_of(teacher_manifest(name))
    heard = overheard(name, student)
    assert len(heard) == STEPS  # one evaluation a step: the pipeline does not guide
    w = torch.full((COUNT,), W, dtype=torch.float64)
    told = w if kind.network.why_not_w is None else None
    for asked, said in heard:
        question = as_ours(name, asked)
        ours = kind.forward(student, *question, told)
        assert torch.equal(ours, unpack(said, 8, 8) if name == "mmdit-flux" else said)
        if told is not None:  # the w that a pipeline passes matters more than rounding
            other = kind.forward(student, *question, told - 1)
            assert float((ours - other).abs().max()) > 1e-3
