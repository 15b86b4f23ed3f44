"""Invalid pipeline directories, each refused with its reason."""

import inspect
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
from diffusers import StableDiffusionPipeline

from pipeline.errors import BundleError
from pipeline.models.directory.pipeline_directory import (
    BETAS,
    DISCRETE,
    SHIFTS,
    UNSUPPORTED_DISCRETE,
    UNSUPPORTED_FLOW,
    read_pipeline,
)
from tests.support.tiny_pipelines import Folder, edit, sharded

Spoil = Callable[[Path], object]
UNET = "unet/diffusion_pytorch_model.safetensors"
VAE = "vae/diffusion_pytorch_model.safetensors"
SCHEDULER = "scheduler/scheduler_config.json"
UNET_CONFIG = "unet/config.json"
VAE_CONFIG = "vae/config.json"


def index(**parts: Any) -> Spoil:
    """Change the table of contents."""
    return lambda folder: edit(folder / "model_index.json", **parts)


def config(path: str, **changes: Any) -> Spoil:
    """Change keys of a part's configuration."""
    return lambda folder: edit(folder / path, **changes)


def written(path: str, text: str) -> Spoil:
    """Write a file."""
    return lambda folder: (folder / path).write_text(text)


def gone(path: str) -> Spoil:
    """Remove a file or a folder."""
    return lambda folder: (
        shutil.rmtree(folder / path) if (folder / path).is_dir() else (folder / path).unlink()
    )


def renamed(path: str, suffix: str) -> Spoil:
    """Give a file another suffix."""
    return lambda folder: (folder / path).rename((folder / path).with_suffix(suffix))


def weights_at(place: str) -> Spoil:
    """Write an index that places all weights of the network there."""
    return lambda folder: sharded(folder, place)


def pickled_extra(folder: Path) -> None:
    (folder / "safety_checker").mkdir()
    (folder / "safety_checker/config.json").write_text("{}")
    (folder / "safety_checker/pytorch_model.bin").touch()
    checker = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    edit(folder / "model_index.json", safety_checker=checker)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (index(_class_name="KandinskyPipeline"), "KandinskyPipeline, .*StableDiffusionPipeline, "),
        (index(_class_name=["pipeline", "MyPipeline"]), r"\['pipeline', 'MyPipeline'\]"),
        (gone("vae"), "has no folder vae"),
        (index(vae=[None, None]), "has no vae"),
        (gone(SCHEDULER), r"scheduler_config\.json cannot be read"),
        (gone(UNET), "unet has no weights"),
        (index(unet=["my_networks", "UNet2DConditionModel"]), r"unet is my_networks\.UNet2DCond"),
        (
            index(text_encoder=["transformers", "BertModel"]),
            r"text_encoder is transformers\.BertModel, expected a stock CLIP",
        ),
        (index(watermark=["my_networks", "Watermark"]), r"watermark is my_networks\.Watermark"),
        (index(**{"../elsewhere": ["diffusers", "AutoencoderKL"]}), r"folder \.\./elsewhere"),
        (written("unet/my_unet.py", "print('run')"), r"code \(unet/my_unet\.py\)"),
        (
            config("text_encoder/config.json", auto_map={"AutoModel": "model.MyModel"}),
            r"config\.json: auto_map",
        ),
        (renamed(UNET, ".bin"), r"diffusion_pytorch_model\.bin .*safe_serialization=True"),
        (pickled_extra, r"safety_checker .*pytorch_model\.bin"),
        (renamed(VAE, ".fp16.safetensors"), r"vae .*diffusion_pytorch_model\.fp16\.safetensors"),
        (
            weights_at("../../other.safetensors"),
            r"name '\.\./\.\./other\.safetensors'",
        ),
        (weights_at("/etc/passwd"), "name '/etc/passwd'"),
        (weights_at("weights.bin"), r"name 'weights\.bin'"),
        (weights_at("other.safetensors"), r"shard other\.safetensors"),
        (config(SCHEDULER, trained_betas=[0.1, 0.2]), r"scheduler_config\.json: trained_betas"),
        (config(SCHEDULER, rescale_betas_zero_snr=True), "rescale_betas_zero_snr"),
        (config(SCHEDULER, thresholding=True), r"scheduler_config\.json: thresholding"),
        (config(SCHEDULER, beta_schedule="squaredcos_cap_v2"), "beta_schedule 'squaredcos_cap_v2'"),
        (config(SCHEDULER, prediction_type="sample"), "prediction_type 'sample'"),
        (config(SCHEDULER, beta_end="much"), r"schedule\.beta_end"),
        (
            lambda folder: (
                index(scheduler=["diffusers", "EulerDiscreteScheduler"])(folder),
                config(SCHEDULER, timestep_type="continuous")(folder),
            ),
            r"scheduler_config\.json: timestep_type 'continuous'.*discrete",
        ),
        (config(VAE_CONFIG, latents_mean=[0.5] * 4), r"vae/config\.json: latents_mean .*null"),
        (config(VAE_CONFIG, latents_std=[2.0] * 4), r"vae/config\.json: latents_std .*null"),
        (config(VAE_CONFIG, shift_factor=0.1), r"vae/config\.json: shift_factor is 0\.1.*null"),
        (
            index(scheduler=["diffusers", "FlowMatchEulerDiscreteScheduler"]),
            r"scheduler is diffusers\.FlowMatchEulerDiscreteScheduler",
        ),
        (
            config(UNET_CONFIG, cross_attention_dim=48),
            "encoders.* 32, but unet has cross_att",
        ),
        (config(UNET_CONFIG, in_channels=9), "channels 4, but unet has in_channels 9"),
        (config(UNET_CONFIG, out_channels=8), "channels 4, but unet has out_channels 8"),
        (config(UNET_CONFIG, in_channels=None), "for in_channels, got None"),
        (config(UNET_CONFIG, norm_num_groups=5), "block_channels 16: use multiples of 5"),
        (config(UNET_CONFIG, addition_embed_type="text_time"), "addition_embed_type"),
        (config(UNET_CONFIG, time_cond_proj_dim=256), "time_cond_proj_dim is set"),
        (written(UNET_CONFIG, '{"in_channels": 4,'), r"unet/config\.json is not JSON"),
        (written("model_index.json", "[]"), r"model_index\.json: .* got a list"),
    ],
)
def test_a_pipeline_that_cannot_be_a_teacher_is_refused(
    spoil: Spoil, message: str, copied: Folder
) -> None:
    folder = copied("sd")
    spoil(folder)
    with pytest.raises(BundleError, match=message):
        read_pipeline(folder)


@pytest.mark.parametrize(
    ("kind", "path", "changes", "message"),
    [
        (
            "sdxl",
            "text_encoder_2/config.json",
            {"hidden_size": 48},
            "encoders have width 80, but unet",
        ),
        ("sdxl", "text_encoder_2/config.json", {"projection_dim": 8}, "embedding have width 56"),
        ("sdxl", UNET_CONFIG, {"addition_embed_type": None}, "addition_embed_type is None"),
        ("sd-inpaint", UNET_CONFIG, {"in_channels": 4}, "channels 9, but unet has in_channels"),
        ("sd3", "text_encoder_3/config.json", {"d_model": 32}, "encoder_3.* 32, but transformer"),
        ("sd3", "text_encoder/config.json", {"projection_dim": 8}, "embedding has width 40, but"),
        ("flux", "text_encoder_2/config.json", {"d_model": 48}, "encoder_2.* 48, but transformer"),
        (
            "flux",
            "transformer/config.json",
            {"in_channels": 4},
            "packed latents have channels 16, but",
        ),
        ("flux", "vae/config.json", {"block_out_channels": 8}, "a list for block_out_channels"),
        ("dit", "transformer/config.json", {"in_channels": 3}, "channels 4, but transformer"),
        (
            "dit",
            "transformer/config.json",
            {"num_embeds_ada_norm": 0},
            "num_embeds_ada_norm, got 0",
        ),
        (
            "flux",
            SCHEDULER,
            {"use_karras_sigmas": True},
            "use_karras_sigmas is True",
        ),
        ("flux", SCHEDULER, {"shift_terminal": 0.02}, "shift_terminal is"),
        (
            "flux",
            SCHEDULER,
            {"max_image_seq_len": 256},
            "its shift cannot be computed",
        ),
        (
            "sd3",
            "model_index.json",
            {"scheduler": ["diffusers", "DDIMScheduler"]},
            "DDIMScheduler, expected a stock FlowMatchEuler",
        ),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(
    kind: str, path: str, changes: dict[str, Any], message: str, copied: Folder
) -> None:
    folder = copied(kind)
    edit(folder / path, **changes)
    with pytest.raises(BundleError, match=message):
        read_pipeline(folder)


def test_a_directory_that_is_no_pipeline_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"model_index\.json"):
        read_pipeline(tmp_path)
    with pytest.raises(BundleError, match="nowhere"):
        read_pipeline(tmp_path / "nowhere")


@pytest.mark.parametrize(("name", "revision"), [("org/name", "SHA"), ("org/name@12ab", "12ab")])
def test_a_hub_name_is_refused_with_the_command_that_fetches_it(name: str, revision: str) -> None:
    with pytest.raises(BundleError, match=f"hf download org/name --revision {revision} --local"):
        read_pipeline(Path(name))


@pytest.mark.parametrize("kind", ["dit", "sdxl", "sd-inpaint"])
@pytest.mark.parametrize("scheduler", ["DDIMScheduler", "DDPMScheduler", "HeunDiscreteScheduler"])
def test_a_pipeline_that_clips_its_predictions_is_refused(
    kind: str, scheduler: str, copied: Folder
) -> None:
    folder = copied(kind)
    index(scheduler=["diffusers", scheduler])(folder)
    read_pipeline(folder)
    edit(folder / SCHEDULER, clip_sample=True, clip_sample_range=2.0)
    with pytest.raises(BundleError, match=r"clip_sample is true, .*2\.0.*clip_sample: false"):
        read_pipeline(folder)
    tree = json.loads((folder / SCHEDULER).read_text())
    del tree["clip_sample"]
    (folder / SCHEDULER).write_text(json.dumps(tree))
    if scheduler == "HeunDiscreteScheduler":  # off by default
        read_pipeline(folder)
        return
    with pytest.raises(BundleError, match=r"clip_sample is missing, .*clip_sample: false"):
        read_pipeline(folder)


def test_a_pipeline_that_does_not_clip_whatever_its_scheduler_has_is_read(copied: Folder) -> None:
    folder = copied("sd")
    edit(folder / SCHEDULER, clip_sample=True)
    assert StableDiffusionPipeline.from_pretrained(folder).scheduler.config.clip_sample is False
    read_pipeline(folder)
    index(scheduler=["diffusers", "PNDMScheduler"])(folder)
    read_pipeline(folder)


@pytest.mark.parametrize(
    ("statistics", "message"),
    [
        ({"latents_mean": [0.5] * 4}, r"latents_std is None, expected 4 numbers"),
        (
            {"latents_mean": [0.5] * 3, "latents_std": [1.0] * 4},
            r"latents_mean is .*latent_channels",
        ),
        ({"latents_mean": [0.5] * 4, "latents_std": [1.0, 0, 1, 1]}, r"latents_std .*above 0"),
    ],
)
def test_latent_statistics_that_cannot_be_applied_are_refused(
    statistics: dict[str, Any], message: str, copied: Folder
) -> None:
    folder = copied("sdxl")
    edit(folder / VAE_CONFIG, **statistics)
    with pytest.raises(BundleError, match=message):
        read_pipeline(folder)


def test_a_shape_of_the_time_shift_that_diffusers_has_not_is_refused(copied: Folder) -> None:
    folder = copied("flux")
    edit(folder / SCHEDULER, time_shift_type="cubic")
    with pytest.raises(BundleError, match=r"time_shift_type 'cubic'.*exponential or linear"):
        read_pipeline(folder)


TIMES = {
    *("set_alpha_to_one", "steps_offset", "timestep_spacing", "skip_prk_steps", "sigma_min"),
    *("sigma_max", "final_sigmas_type", "interpolation_type", "lambda_min_clipped"),
    *("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas"),
}
"""Keys that choose at which times the stock pipeline samples: the recipe chooses these."""
STEPS = {
    *("solver_order", "solver_type", "solver_p", "algorithm_type", "lower_order_final"),
    *("euler_at_final", "predict_x0", "disable_corrector", "variance_type"),
}
"""Keys of the stock sampler's own steps: a teacher is sampled by ours, on the same noise path."""
OF_REFUSED = {
    *("dynamic_thresholding_ratio", "sample_max_value", "clip_sample_range", "flow_shift"),
    *("use_dynamic_shifting", "time_shift_type", "shift_terminal"),
}
"""Keys with an effect only together with a key that is refused."""


@pytest.mark.parametrize("name", DISCRETE)
def test_each_key_of_a_scheduler_is_read_refused_or_without_effect(name: str) -> None:
    refused = {*UNSUPPORTED_DISCRETE, "clip_sample", "timestep_type"}
    known = {*BETAS, *TIMES, *STEPS, *OF_REFUSED, *refused}
    assert set(inspect.signature(getattr(diffusers, name).__init__).parameters) - known == {"self"}


def test_each_key_of_a_flow_scheduler_is_read_or_refused() -> None:
    parameters = inspect.signature(diffusers.FlowMatchEulerDiscreteScheduler.__init__).parameters
    assert set(parameters) - {*SHIFTS, *UNSUPPORTED_FLOW} == {"self"}


@pytest.mark.parametrize("name", DISCRETE)
def test_missing_betas_are_those_of_the_class(name: str, copied: Folder) -> None:
    folder = copied("sd")
    (folder / SCHEDULER).write_text("{}")
    index(scheduler=["diffusers", name])(folder)
    stock = inspect.signature(getattr(diffusers, name).__init__).parameters
    schedule = read_pipeline(folder).schedule
    assert schedule.beta_start == stock["beta_start"].default
    assert schedule.beta_end == stock["beta_end"].default
