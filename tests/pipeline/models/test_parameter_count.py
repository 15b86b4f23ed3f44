"""Parameters are counted without allocation, with the result of a real network."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file

from pipeline.bundle import Lineage, Manifest
from pipeline.config import ScheduleConfig, UNetConfig
from pipeline.errors import BundleError
from pipeline.models.assemble import family_of, fresh_manifest
from pipeline.models.parameter_count import count, count_networks, count_stored
from tests.support.cases import NETWORKS, teacher_config, teacher_manifest
from tests.support.stock_bundles import tiny
from tests.support.tiny_pipelines import KINDS

LINEAGE = Lineage(run="counted", round=None, parent=None)
SDXL = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_pipeline_is_counted_as_it_loads(kind: str, tmp_path: Path) -> None:
    built = tiny(kind, tmp_path)
    folder = built.pipeline / built.manifest.folder
    student = family_of(built.manifest).student_of(built.module, (0.0, 4.0))
    found = count_networks(built.manifest, folder, (0.0, 4.0))
    assert found == (count(built.module), count(student))
    stored = sum(value.numel() for value in built.module.state_dict().values())
    assert count_stored(sorted(folder.glob("*.safetensors"))) == stored


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_to_be_trained_is_counted_as_it_will_be(name: str) -> None:
    manifest = teacher_manifest(name)
    teacher = family_of(manifest).build()
    student = family_of(manifest).student_of(teacher, (0.0, 4.0))
    assert count_networks(manifest, None, (0.0, 4.0)) == (count(teacher), count(student))


def test_stable_diffusion_xl_is_counted_from_its_configuration_alone(tmp_path: Path) -> None:
    with torch.device("meta"):
        config = UNet2DConditionModel(**SDXL).config
    text = json.dumps({key: config[key] for key in SDXL} | {"_class_name": "UNet2DConditionModel"})
    (tmp_path / "config.json").write_text(text)
    network = UNetConfig(
        family="unet",
        block_channels=(320, 640, 1280),
        attention_heads=10,
        text_channels=2048,
        pooled_channels=1280,
        w_embedding_dim=256,
    )
    manifest = Manifest(
        role="teacher",
        network=network,
        num_classes=0,
        latent_shape=(4, 128, 128),
        schedule=ScheduleConfig(kind="scaled_linear", num_train_timesteps=1000),
        prediction_type="epsilon",
        folder="unet",
        lineage=LINEAGE,
    )
    teacher, student = count_networks(manifest, tmp_path, (0.0, 14.0))
    assert teacher == 2_567_463_684  # 2.6B in table 1 of arXiv:2307.01952
    assert student - teacher == 256 * 320  # the embedding of w into the time embedding's input


def test_stored_numbers_are_added_up_over_files_of_any_precision(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(3, 4), "b": torch.zeros(())}, tmp_path / "one.safetensors")
    save_file({"c": torch.zeros(5, dtype=torch.float16)}, tmp_path / "two.safetensors")
    assert count_stored(sorted(tmp_path.iterdir())) == 12 + 1 + 5


def test_what_is_no_safetensors_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "one.safetensors"
    path.write_bytes(b"no header")
    with pytest.raises(BundleError, match=r"one\.safetensors is not safetensors"):
        count_stored([path])


def test_a_configuration_of_something_else_is_refused(tmp_path: Path) -> None:
    manifest = fresh_manifest(teacher_config("unet"), 3, (4, 8, 8), LINEAGE)
    for text in (None, "{", '{"block_out_channels": []}'):
        if text is not None:
            (tmp_path / "config.json").write_text(text)
        with pytest.raises(BundleError, match="does not describe a UNet2DConditionModel"):
            count_networks(manifest, tmp_path, (0.0, 4.0))
