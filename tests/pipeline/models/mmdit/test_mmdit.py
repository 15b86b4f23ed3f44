"""Flux and SD3: tokens as the pipeline packs them, guidance where the network has it."""

from pathlib import Path

import pytest
import torch
from diffusers import FluxPipeline
from torch import nn

from pipeline.bundle import Manifest
from pipeline.config import MMDiTConfig
from pipeline.models.assemble import denoiser_of, family_of, load_module, save_bundle
from pipeline.models.denoiser import NetworkDenoiser
from pipeline.models.mmdit.mmdit import pack, token_positions, unpack
from tests.support.cases import condition_of, normal, student_manifest, teacher_manifest, times

SIZES = pytest.mark.parametrize(("height", "width"), [(8, 8), (4, 10), (2, 2)])


@SIZES
def test_tokens_are_the_pipelines(height: int, width: int) -> None:
    latents = normal(3, 4, height, width)
    tokens = pack(latents)
    theirs = FluxPipeline._pack_latents(latents, 3, 4, height, width)
    assert torch.equal(tokens, theirs)
    assert torch.equal(unpack(tokens, height, width), latents)
    # the pipeline takes pixels; here one per latent
    assert torch.equal(FluxPipeline._unpack_latents(theirs, height, width, 1), latents)


@SIZES
def test_tokens_are_where_the_pipeline_puts_them(height: int, width: int) -> None:
    theirs = FluxPipeline._prepare_latent_image_ids(
        1, height // 2, width // 2, torch.device("cpu"), torch.float32
    )
    assert torch.equal(token_positions(height, width), theirs)


@pytest.mark.parametrize(
    ("head_dim", "axes"),
    [(6, (2, 2, 2)), (8, (4, 2, 2)), (64, (8, 28, 28)), (128, (16, 56, 56))],
)
def test_rotary_channels_are_shared_out_as_flux_does(
    head_dim: int, axes: tuple[int, int, int]
) -> None:
    network = MMDiTConfig(family="mmdit", kind="flux", head_dim=head_dim)
    manifest = teacher_manifest("mmdit-flux").model_copy(update={"network": network})
    assert tuple(family_of(manifest).build().config.axes_dims_rope) == axes


def guided_flux() -> tuple[Manifest, nn.Module]:
    """A teacher that already has an embedding of guidance, as FLUX.1-dev."""
    network = teacher_manifest("mmdit-flux").network.model_copy(update={"guidance_embeds": True})
    manifest = teacher_manifest("mmdit-flux").model_copy(update={"network": network})
    torch.manual_seed(0)
    return manifest, family_of(manifest).build().eval()


def test_a_flux_teacher_with_guidance_takes_it_as_input_in_one_evaluation(tmp_path: Path) -> None:
    manifest, module = guided_flux()
    assert manifest.is_w_conditioned
    save_bundle(tmp_path, manifest, module)
    denoiser = denoiser_of(manifest, load_module(tmp_path, manifest))
    assert isinstance(denoiser, NetworkDenoiser)
    z_t, condition = normal(2, 4, 8, 8).float(), condition_of(manifest, 2)
    level = denoiser.schedule.at(times(0.5, 1.0))
    with torch.no_grad():
        low, high = (denoiser(z_t, level, condition, times(w, w)).x for w in (0.0, 3.5))
    assert float((low - high).abs().amax(dim=(1, 2, 3)).min()) > 1e-4


def test_its_student_is_a_copy_that_keeps_what_it_knows_of_guidance() -> None:
    manifest, teacher = guided_flux()
    student = family_of(manifest).student_of(teacher, (0.0, 4.0))
    theirs = teacher.state_dict()
    assert student.state_dict().keys() == theirs.keys()
    assert all(torch.equal(value, theirs[key]) for key, value in student.state_dict().items())
    assert bool(student.get_parameter("time_text_embed.guidance_embedder.linear_2.weight").any())


def test_only_the_embedding_of_guidance_is_new_in_a_flux_student() -> None:
    kind = family_of(student_manifest(teacher_manifest("mmdit-flux")))
    teacher = kind.build()
    student = kind.student_of(teacher, (0.0, 4.0))
    new = student.state_dict().keys() - teacher.state_dict().keys()
    embedder = "time_text_embed.guidance_embedder"
    assert new == {f"{embedder}.linear_{i}.{part}" for i in (1, 2) for part in ("weight", "bias")}
    assert not bool(student.get_parameter(f"{embedder}.linear_2.weight").any())
    assert bool(student.get_parameter(f"{embedder}.linear_1.weight").any())


def test_a_network_of_the_other_kind_is_refused() -> None:
    sd3, flux = (family_of(teacher_manifest(name)) for name in ("mmdit-sd3", "mmdit-flux"))
    with pytest.raises(TypeError, match="expected a SD3Transformer2DModel, got FluxTransformer2D"):
        sd3.student_of(flux.build(), (0.0, 4.0))
