"""Adopted networks: folders as on the hub, only smaller."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file

from pipeline.bundle import Manifest
from pipeline.errors import BundleError
from pipeline.models.assemble import family_of, load_module
from pipeline.tensors import Condition
from tests.support.cases import condition_of, normal, student_manifest, teacher_manifest

SD_15: dict[str, Any] = {
    "_class_name": "UNet2DConditionModel",
    "_diffusers_version": "0.6.0",
    "act_fn": "silu",
    "attention_head_dim": 2,
    "block_out_channels": [8, 16, 16, 16],
    "center_input_sample": False,
    "cross_attention_dim": 12,
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "downsample_padding": 1,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "in_channels": 4,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-05,
    "norm_num_groups": 4,
    "out_channels": 4,
    "sample_size": 8,
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
}

SDXL: dict[str, Any] = {
    **SD_15,
    "_diffusers_version": "0.19.0.dev0",
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "attention_head_dim": [1, 2, 4],
    "block_out_channels": [8, 16, 16],
    "class_embed_type": None,
    "down_block_types": ["DownBlock2D"] + ["CrossAttnDownBlock2D"] * 2,
    "num_attention_heads": None,
    "num_class_embeds": None,
    "projection_class_embeddings_input_dim": 58,
    "time_cond_proj_dim": None,
    "transformer_layers_per_block": [1, 2, 3],
    "up_block_types": ["CrossAttnUpBlock2D"] * 2 + ["UpBlock2D"],
    "upcast_attention": None,
    "use_linear_projection": True,
}

KINDS = {"unet-text": SD_15, "unet-sdxl": SDXL}
every_kind = pytest.mark.parametrize("name", KINDS)


def adopted(name: str, folder: Path, **saving: Any) -> Manifest:
    """The folder of such a network, stored in half precision under the hub's own config."""
    torch.manual_seed(0)
    module = UNet2DConditionModel.from_config(KINDS[name]).half()
    module.save_pretrained(folder / "unet", **saving)
    (folder / "unet" / "config.json").write_text(json.dumps(KINDS[name]))
    return teacher_manifest(name)


def inputs(manifest: Manifest) -> tuple[torch.Tensor, torch.Tensor, Condition]:
    return normal(2, 4, 8, 8).float(), torch.tensor([3.0, 999.0]), condition_of(manifest, 2)


@every_kind
@pytest.mark.parametrize("saving", [{}, {"max_shard_size": "100KB"}], ids=["one file", "shards"])
def test_an_adopted_network_is_opened_in_single_precision(
    name: str, saving: dict[str, str], tmp_path: Path
) -> None:
    manifest = adopted(name, tmp_path, **saving)
    files = list(tmp_path.rglob("*.safetensors"))
    assert (len(files) > 1) is bool(saving)
    module = load_module(tmp_path, manifest)
    stored = {key: value for file in files for key, value in load_file(file).items()}
    assert module.state_dict().keys() == stored.keys()
    for key, value in module.state_dict().items():
        assert value.dtype is torch.float32
        assert torch.equal(value, stored[key].float()), key


@every_kind
def test_its_student_is_it_but_for_a_projection_of_w(name: str, tmp_path: Path) -> None:
    manifest = adopted(name, tmp_path)
    kind, teacher = family_of(manifest), load_module(tmp_path, manifest)
    student = kind.student_of(teacher, (0.0, 4.0))
    ours, theirs = student.state_dict(), teacher.state_dict()
    assert ours.keys() - theirs.keys() == {"time_embedding.cond_proj.weight"}
    assert student.config.time_cond_proj_dim == manifest.network.w_embedding_dim
    for key, value in KINDS[name].items():
        if key not in ("_class_name", "_diffusers_version", "time_cond_proj_dim"):
            assert student.config[key] == value, key
    z_t, timestep, condition = inputs(manifest)
    w = torch.tensor([0.0, 4.0], dtype=torch.float64)
    with torch.no_grad():
        conditional = kind.forward(teacher, z_t, timestep, condition, None)
        answered = kind.forward(student.eval(), z_t, timestep, condition, w)
    for key, value in theirs.items():
        assert torch.equal(ours[key], value), key
    assert not student.time_embedding.cond_proj.weight.any()
    # the same sums of the same numbers, but some processors' kernels order them by where they lie
    assert (answered - conditional).abs().max() <= 1e-6 * conditional.abs().max()


@every_kind
def test_its_student_is_saved_as_stock_diffusers_loads_it(name: str, tmp_path: Path) -> None:
    manifest = adopted(name, tmp_path / "teacher")
    kind = family_of(manifest)
    student = kind.student_of(load_module(tmp_path / "teacher", manifest), (0.0, 4.0)).eval()
    kind.save(student, tmp_path / "student" / "unet")
    stock = UNet2DConditionModel.from_pretrained(tmp_path / "student", subfolder="unet")
    theirs = stock.state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in student.state_dict().items())
    assert "teacher" not in (tmp_path / "student" / "unet" / "config.json").read_text()
    load_module(tmp_path / "student", student_manifest(manifest))


def test_a_w_conditioned_network_is_no_teacher(tmp_path: Path) -> None:
    manifest = adopted("unet-text", tmp_path)
    kind = family_of(manifest)
    student = kind.student_of(load_module(tmp_path, manifest), (0.0, 4.0))
    kind.save(student, tmp_path / "unet")
    with pytest.raises(BundleError, match="is w-conditioned"):
        load_module(tmp_path, manifest)


def test_weights_that_lack_a_tensor_are_refused_and_not_drawn_at_random(tmp_path: Path) -> None:
    manifest = adopted("unet-text", tmp_path)
    path = next(tmp_path.rglob("*.safetensors"))
    weights = load_file(path)
    del weights["conv_out.bias"]
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(BundleError, match=r"conv_out\.bias"):
        load_module(tmp_path, manifest)


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    manifest = adopted("unet-text", tmp_path, safe_serialization=False)
    assert list(tmp_path.rglob("*.bin"))
    assert not list(tmp_path.rglob("*.safetensors"))
    with pytest.raises(BundleError, match="the weights of the teacher"):
        load_module(tmp_path, manifest)
