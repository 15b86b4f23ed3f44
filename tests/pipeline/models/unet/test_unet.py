"""The U-Net is a stock diffusers model, with the w input of stock pipelines."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from torch import nn

from pipeline.models.assemble import family_of, save_bundle
from pipeline.models.unet.unet import UNetFamily
from tests.support.cases import condition_of, normal, student_manifest, teacher_manifest
from tests.support.tiny_pipelines import edit

MANIFEST = student_manifest(teacher_manifest("unet"))


@pytest.fixture(scope="module")
def student() -> nn.Module:
    """A student whose w projection is not zero."""
    torch.manual_seed(0)
    kind = family_of(MANIFEST)
    module = kind.student_of(kind.build(), (0.0, 4.0)).eval()
    nn.init.normal_(module.get_parameter("time_embedding.cond_proj.weight"))
    return module


def test_stock_diffusers_loads_a_bundle_and_computes_the_same(
    student: nn.Module, tmp_path: Path
) -> None:
    save_bundle(tmp_path, MANIFEST, student)
    stock = UNet2DConditionModel.from_pretrained(tmp_path, subfolder="unet")
    label, timestep = torch.tensor([0, 7, 10]), torch.tensor([0, 511, 1023])
    z_t, w = normal(3, 1, 8, 8).float(), torch.tensor([0.0, 1.5, 4.0], dtype=torch.float64)
    embed = StableDiffusionPipeline.get_guidance_scale_embedding
    with torch.no_grad():
        theirs = stock(
            z_t,
            timestep,
            encoder_hidden_states=None,
            class_labels=label,
            timestep_cond=embed(None, w.float(), stock.config.time_cond_proj_dim),
        ).sample
        ours = family_of(MANIFEST).forward(student, z_t, timestep.float(), {"label": label}, w)
    assert torch.equal(ours, theirs)


def test_dropout_of_a_loaded_network_is_off_in_training_and_stays_in_its_config(
    tmp_path: Path,
) -> None:
    manifest = teacher_manifest("unet")
    kind = family_of(manifest)
    save_bundle(tmp_path, manifest, kind.build())
    edit(tmp_path / "unet/config.json", dropout=0.5)
    teacher = kind.load(tmp_path / "unet", is_w_conditioned=False)
    z_t, timestep = normal(2, 1, 8, 8).float(), torch.tensor([3.0, 511.0])
    condition = {"label": torch.tensor([0, 10])}
    for module in (teacher, kind.student_of(teacher, (0.0, 4.0))):
        assert module.config["dropout"] == 0.5
        w = None if module is teacher else torch.tensor([0.0, 4.0], dtype=torch.float64)
        module.train()
        first, second = (kind.forward(module, z_t, timestep, condition, w) for _ in range(2))
        assert torch.equal(first, second)
        kind.save(module, tmp_path / "saved")
        assert json.loads((tmp_path / "saved/config.json").read_text())["dropout"] == 0.5


def test_a_module_of_another_kind_is_refused(tmp_path: Path) -> None:
    kind = family_of(MANIFEST)
    assert isinstance(kind, UNetFamily)
    with pytest.raises(TypeError, match="expected a UNet2DConditionModel, got Linear"):
        kind.student_of(nn.Linear(1, 1), (0.0, 4.0))
    with pytest.raises(TypeError, match="expected a UNet2DConditionModel, got Linear"):
        kind.save(nn.Linear(1, 1), tmp_path)


def test_half_precision_returns_half_precision_and_is_close(student: nn.Module) -> None:
    kind = family_of(MANIFEST)
    z_t, timestep = normal(4, 1, 8, 8).float(), torch.tensor([0.0, 100.0, 511.0, 1023.0])
    condition, w = {"label": torch.arange(4)}, torch.full((4,), 2.0, dtype=torch.float64)
    with torch.no_grad():
        wide = kind.forward(student, z_t, timestep, condition, w)
        half = kind.forward(_copy(student).bfloat16(), z_t, timestep, condition, w)
    assert half.dtype is torch.bfloat16
    assert float((half.float() - wide).abs().mean() / wide.abs().mean()) < 0.05


def test_a_network_of_classes_has_blocks_without_attention_and_one_class_more() -> None:
    kind = family_of(MANIFEST)
    torch.manual_seed(0)
    ours = kind.build()
    torch.manual_seed(0)
    written_out = UNet2DConditionModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        block_out_channels=(32, 64),
        layers_per_block=1,
        norm_num_groups=8,
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
        mid_block_type="UNetMidBlock2D",
        num_class_embeds=11,
    )
    assert ours.config == written_out.config
    theirs = written_out.state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in ours.state_dict().items())


@pytest.mark.parametrize("name", ["unet-text", "unet-sdxl", "unet-inpaint"])
def test_a_network_of_prompts_attends_everywhere_but_at_the_lowest_resolution(name: str) -> None:
    module = family_of(teacher_manifest(name)).build()
    blocks = [*module.down_blocks, module.mid_block, *module.up_blocks]
    attends = [getattr(block, "has_cross_attention", False) for block in blocks]
    assert attends == [True, False, True, False, True]
    assert module.class_embedding is None
    assert hasattr(module, "add_embedding") is (name == "unet-sdxl")
    assert module.config.in_channels == (9 if name == "unet-inpaint" else 4)
    assert module.config.out_channels == 4


def test_image_sizes_are_not_rounded_in_half_precision() -> None:
    manifest = teacher_manifest("unet-sdxl")
    kind = family_of(manifest)
    module = kind.build().bfloat16().eval()
    told: list[torch.Tensor] = []
    module.add_time_proj.register_forward_pre_hook(lambda _, given: told.append(given[0]))
    z_t, condition = normal(1, 4, 8, 8).float(), condition_of(manifest, 1)
    condition["time_ids"] = torch.tensor([[1023.0, 1021.0, 0.0, 3.0, 1023.0, 1021.0]])
    with torch.no_grad():
        answer = kind.forward(module, z_t, torch.tensor([999.0]), condition, None)
    assert told[0].tolist() == condition["time_ids"].flatten().tolist()
    assert answer.dtype is torch.bfloat16


def _copy(module: nn.Module) -> nn.Module:
    copied = UNet2DConditionModel.from_config(module.config)
    copied.load_state_dict(module.state_dict())
    return copied.eval()
