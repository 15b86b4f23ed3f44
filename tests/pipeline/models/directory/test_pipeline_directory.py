"""A stock pipeline is described by its own JSON, and one that cannot be a teacher is refused."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.flux.pipeline_flux import calculate_shift

from pipeline.bundle import Lineage, Manifest
from pipeline.config import DiTConfig, MMDiTConfig, ScheduleConfig, UNetConfig
from pipeline.diffusion.schedule import RectifiedFlow
from pipeline.models.assemble import load_module
from pipeline.models.directory.pipeline_directory import PipelineInfo, read_pipeline
from pipeline.models.directory.pipeline_files import component_files, network_files
from tests.support.tiny_pipelines import CLASSES, KINDS, LATENT, WIDTH, Folder, edit, sharded

SD_PATH = ScheduleConfig(
    kind="scaled_linear", num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012
)
UNET = UNetConfig(
    family="unet",
    block_channels=(16, 32),
    w_embedding_dim=256,
    text_channels=WIDTH,
    attention_heads=4,
)


@pytest.mark.parametrize("kind", KINDS)
def test_stock_diffusers_loads_the_tiny_pipeline_with_no_help(kind: str, originals: Path) -> None:
    pipeline = DiffusionPipeline.from_pretrained(
        originals / kind, local_files_only=True, use_safetensors=True
    )
    assert type(pipeline).__name__ == read_pipeline(originals / kind).pipeline


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_described_is_what_loads(kind: str, originals: Path) -> None:
    info = read_pipeline(originals / kind)
    manifest = Manifest(
        role="teacher",
        network=info.network,
        num_classes=info.num_classes,
        latent_shape=info.latent_shape,
        schedule=info.schedule,
        prediction_type=info.prediction,
        folder=info.network_folder,
        lineage=Lineage(run="test", round=None, parent=None),
    )
    assert info.latent_shape == LATENT
    assert info.downsampling == 2
    assert sum(part.numel() for part in load_module(originals / kind, manifest).parameters()) > 0


@pytest.mark.parametrize(
    ("kind", "network", "prediction"),
    [
        ("sd", UNET, "epsilon"),
        ("sd2-v", UNET, "v_prediction"),
        ("sd-inpaint", UNET.model_copy(update={"image_channels": LATENT[0] + 1}), "epsilon"),
        (
            "sdxl",
            UNET.model_copy(update={"text_channels": 2 * WIDTH, "pooled_channels": WIDTH}),
            "epsilon",
        ),
    ],
)
def test_a_unet_is_described(
    kind: str, network: UNetConfig, prediction: str, originals: Path
) -> None:
    info = read_pipeline(originals / kind)
    assert (info.network, info.schedule) == (network, SD_PATH)
    assert (info.prediction, info.network_folder, info.num_classes) == (prediction, "unet", 0)


def test_a_dit_is_described_with_its_classes(originals: Path) -> None:
    info = read_pipeline(originals / "dit")
    assert info.network == DiTConfig(family="dit")
    assert info.num_classes == CLASSES
    assert info.schedule == ScheduleConfig(
        kind="linear", num_train_timesteps=1000, beta_start=0.0001, beta_end=0.02
    )


def test_a_flow_transformer_is_described(originals: Path) -> None:
    sd3, flux = read_pipeline(originals / "sd3"), read_pipeline(originals / "flux")
    assert sd3.network == MMDiTConfig(
        family="mmdit", kind="sd3", layers=2, text_channels=2 * WIDTH, pooled_channels=2 * WIDTH
    )
    assert flux.network == MMDiTConfig(
        family="mmdit", kind="flux", text_channels=WIDTH, pooled_channels=WIDTH
    )
    assert (sd3.network_folder, flux.prediction) == ("transformer", "flow_prediction")
    assert sd3.schedule.shift == 3.0


@pytest.mark.parametrize("shape", ["exponential", "linear"])
def test_the_dynamic_shift_of_flux_is_the_one_its_pipeline_draws_with(
    shape: str, copied: Folder
) -> None:
    folder = copied("flux")
    edit(folder / "scheduler/scheduler_config.json", time_shift_type=shape)
    schedule = read_pipeline(folder).schedule
    scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler")
    mu = calculate_shift((LATENT[1] // 2) * (LATENT[2] // 2))
    scheduler.set_timesteps(sigmas=np.linspace(1, 1 / 8, 8), mu=mu)
    ours = RectifiedFlow(1000, schedule.shift)
    grid = ours.at(ours.grid(8)).sigma
    torch.testing.assert_close(scheduler.sigmas.double(), grid, rtol=0, atol=1e-6)  # float32


def test_a_static_shift_is_taken_as_it_is(copied: Folder) -> None:
    folder = copied("flux")
    edit(folder / "scheduler/scheduler_config.json", use_dynamic_shifting=False, shift=3.0)
    assert math.isclose(read_pipeline(folder).schedule.shift, 3.0)


def test_keys_that_an_older_diffusers_did_not_write_have_their_defaults(copied: Folder) -> None:
    folder = copied("sd")
    path = folder / "unet/config.json"
    old = {key: value for key, value in json.loads(path.read_text()).items() if value is not None}
    path.write_text(json.dumps(old))
    scheduler = folder / "scheduler/scheduler_config.json"
    scheduler.write_text(json.dumps({"_class_name": "PNDMScheduler", "beta_schedule": "linear"}))
    index = json.loads((folder / "model_index.json").read_text())
    edit(folder / "model_index.json", scheduler=["diffusers", "PNDMScheduler"])
    assert index["scheduler"] == ["diffusers", "DDIMScheduler"]
    info = read_pipeline(folder)
    assert info.network == UNET
    assert (info.schedule.beta_start, info.schedule.beta_end) == (0.0001, 0.02)


def test_sharded_weights_and_links_to_a_cache_are_read(copied: Folder, tmp_path: Path) -> None:
    folder = copied("sd")
    name = "diffusion_pytorch_model-00001-of-00001.safetensors"
    sharded(folder, name)
    cache = tmp_path / "blobs"
    cache.mkdir()
    (folder / "unet" / name).rename(cache / "0123abcd")
    (folder / "unet" / name).symlink_to(cache / "0123abcd")
    assert isinstance(read_pipeline(folder), PipelineInfo)
    assert [path.name for path in network_files(folder, "unet")] == [
        "config.json",
        "diffusion_pytorch_model.safetensors.index.json",
        name,
    ]


def test_components_are_all_that_stock_loaders_read_but_the_network(copied: Folder) -> None:
    folder = copied("sd")
    (folder / "v1-pruned.ckpt").touch()
    (folder / "README.md").touch()
    (folder / "vae/diffusion_pytorch_model.fp16.safetensors").touch()
    (folder / "vae/diffusion_pytorch_model.bin").touch()
    found = {str(path.relative_to(folder)) for path in component_files(folder, "unet")}
    assert found == {
        "model_index.json",
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "tokenizer/tokenizer.json",
        "tokenizer/tokenizer_config.json",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    }
