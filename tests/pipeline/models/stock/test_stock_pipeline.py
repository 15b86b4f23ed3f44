"""Our use of a stock pipeline gives what its own class computes."""

import inspect
import sys
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import load_file, save_file

from pipeline.errors import ConfigError
from pipeline.models.directory.pipeline_directory import read_pipeline
from pipeline.models.dit.dit_pipeline import DiT
from pipeline.models.stock.stock_pipeline import STOCK
from tests.support.stock_bundles import Tiny, tiny
from tests.support.tiny_pipelines import KINDS, PIXELS, edit

PROMPTS = ["a red 7", "of"]
READ_TEXT = [kind for kind in KINDS if kind != "dit"]


@pytest.fixture(scope="module", params=KINDS)
def parts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return tiny(request.param, tmp_path_factory.mktemp(request.param))


def opened(parts: Tiny) -> Any:
    return DiffusionPipeline.from_pretrained(
        parts.pipeline, dtype=torch.float32, local_files_only=True, use_safetensors=True
    )


def encoded(pipeline: Any, prompts: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Conditions and null conditions as the complete pipeline computes them under guidance."""
    name = type(pipeline).__name__
    if name == "FluxPipeline":
        text, pooled, _ = pipeline.encode_prompt(prompts, None)
        null_text, null_pooled, _ = pipeline.encode_prompt([""] * len(prompts), None)
    elif name == "StableDiffusion3Pipeline":
        text, null_text, pooled, null_pooled = pipeline.encode_prompt(prompts, None, None)
    elif name == "StableDiffusionXLPipeline":
        text, null_text, pooled, null_pooled = pipeline.encode_prompt(prompts)
    else:
        text, null_text = pipeline.encode_prompt(prompts, "cpu", 1, True)
        return {"text": text}, {"text": null_text}
    return {"text": text, "pooled": pooled}, {"text": null_text, "pooled": null_pooled}


@torch.no_grad()
def test_conditions_are_those_of_the_complete_pipeline(parts: Tiny) -> None:
    if parts.manifest.num_classes:
        assert parts.stock.encode(["3", "0"])["label"].tolist() == [3, 0]
        return
    condition, null = parts.stock.encode(PROMPTS), parts.stock.null()
    expected, expected_null = encoded(opened(parts), PROMPTS)
    assert condition.keys() == null.keys() == expected.keys()
    for key, value in expected.items():
        assert condition[key].dtype == torch.float32
        torch.testing.assert_close(condition[key], value)
        torch.testing.assert_close(null[key], expected_null[key][:1])
        assert not torch.equal(condition[key][0], condition[key][1])


@torch.no_grad()
def test_latents_are_the_scaled_mean_and_come_back_as_the_autoencoder_has_it(parts: Tiny) -> None:
    pixels = torch.rand(2, 3, PIXELS, PIXELS, generator=torch.Generator().manual_seed(0)) * 2 - 1
    autoencoder = opened(parts).vae
    mean = autoencoder.encode(pixels).latent_dist.mean
    latents = parts.stock.to_latents(pixels)
    assert latents.shape == (2, *parts.manifest.latent_shape)
    config = autoencoder.config
    shift = getattr(config, "shift_factor", None) or 0.0
    torch.testing.assert_close(latents, (mean - shift) * config.scaling_factor)
    torch.testing.assert_close(parts.stock.to_pixels(latents), autoencoder.decode(mean).sample)


@torch.no_grad()
def test_latent_statistics_are_applied_as_in_the_complete_pipeline(tmp_path: Path) -> None:
    parts = tiny("sdxl", tmp_path)
    statistics = {"latents_mean": [0.5, -1.0, 2.0, 0.0], "latents_std": [0.5, 1.0, 2.0, 4.0]}
    for folder in (parts.pipeline, parts.stock.components):
        edit(folder / "vae/config.json", **statistics)
    read_pipeline(parts.pipeline)
    pipeline = opened(parts)
    pipeline.watermark = None
    call = {"prompt": "a red 7", "num_inference_steps": 1, "height": PIXELS, "width": PIXELS}
    latents, pixels = (
        pipeline(**call, output_type=kind, generator=torch.Generator().manual_seed(0)).images
        for kind in ("latent", "pt")
    )
    drawn = parts.stock.to_pixels(latents)
    torch.testing.assert_close((drawn / 2 + 0.5).clamp(0, 1), pixels)
    plain = pipeline.vae.encode(drawn).latent_dist.mean
    mean, std = (torch.tensor(each)[:, None, None] for each in statistics.values())
    scale = parts.stock.autoencoder.config.scaling_factor
    expected = (plain - mean) * scale / std
    torch.testing.assert_close(parts.stock.to_latents(drawn), expected, rtol=1e-4, atol=1e-4)


def test_sizes_are_what_sdxl_computes_itself(tmp_path: Path) -> None:
    parts = tiny("sdxl", tmp_path)
    told = parts.stock.sizes([(300, 200)], [(5, 7)], PIXELS)["time_ids"]
    pipeline = opened(parts)
    width = pipeline.text_encoder_2.config.projection_dim
    sizes = ((300, 200), (5, 7), (PIXELS, PIXELS))
    expected = pipeline._get_add_time_ids(
        *sizes, dtype=torch.float32, text_encoder_projection_dim=width
    )
    torch.testing.assert_close(told, expected)


def test_sdxl_without_zeros_contrasts_with_the_empty_prompt(tmp_path: Path) -> None:
    parts = tiny("sdxl", tmp_path)
    assert not parts.stock.null()["text"].any()
    index = parts.components / "model_index.json"
    text = index.read_text().replace(
        '"force_zeros_for_empty_prompt": true', '"force_zeros_for_empty_prompt": false'
    )
    index.write_text(text)
    for key, value in parts.stock.encode([""]).items():
        torch.testing.assert_close(parts.stock.null()[key], value)


def test_half_precision_encoders_are_opened_in_float32(tmp_path: Path) -> None:
    parts = tiny("sd", tmp_path)
    weights = parts.components / "text_encoder" / "model.safetensors"
    half = {name: value.half() for name, value in load_file(weights).items()}
    save_file(half, weights, metadata={"format": "pt"})
    assert parts.stock.encode(["7"])["text"].dtype == torch.float32


def test_a_class_is_given_by_name_or_number(tmp_path: Path) -> None:
    parts = tiny("dit", tmp_path)
    index = parts.components / "model_index.json"
    index.write_text(index.read_text().replace("{", '{"id2label": {"4": "white shark, shark"},', 1))
    stock = DiT(parts.components)
    assert stock.encode(["shark", "white shark", "2"])["label"].tolist() == [4, 4, 2]
    with pytest.raises(ConfigError, match="no class 'umbrella'"):
        stock.encode(["umbrella"])


@pytest.mark.parametrize("name", STOCK.names())
def test_the_card_lists_the_classes_that_pass_w(name: str) -> None:
    kind = STOCK.get(name)

    def tells(pipeline: str) -> bool:
        module = sys.modules[getattr(diffusers, pipeline).__module__]
        source = inspect.getsource(module)
        return "timestep_cond=timestep_cond" in source or "guidance=guidance" in source

    assert all(tells(other) for other in kind.w_passing_classes)
    assert not any(tells(other) for other in kind.w_ignoring_classes)
    assert tells(name) == (name not in ("DiTPipeline", "StableDiffusion3Pipeline"))
