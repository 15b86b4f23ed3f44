"""What a pipeline directory must not be, each refused with its reason."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import BundleError
from pipeline.models.directory.pipeline_directory import read_pipeline
from tests.support.tiny_pipelines import Folder, edit, sharded


def unknown(folder: Path) -> None:
    edit(folder / "model_index.json", _class_name="KandinskyPipeline")


def own_pipeline_code(folder: Path) -> None:
    edit(folder / "model_index.json", _class_name=["pipeline", "MyPipeline"])


def no_autoencoder(folder: Path) -> None:
    shutil.rmtree(folder / "vae")


def no_autoencoder_named(folder: Path) -> None:
    edit(folder / "model_index.json", vae=[None, None])


def no_scheduler_file(folder: Path) -> None:
    (folder / "scheduler/scheduler_config.json").unlink()


def no_weights(folder: Path) -> None:
    (folder / "unet/diffusion_pytorch_model.safetensors").unlink()


def other_library(folder: Path) -> None:
    edit(folder / "model_index.json", unet=["my_networks", "UNet2DConditionModel"])


def other_class(folder: Path) -> None:
    edit(folder / "model_index.json", text_encoder=["transformers", "BertModel"])


def foreign_extra(folder: Path) -> None:
    edit(folder / "model_index.json", watermark=["my_networks", "Watermark"])


def parent_as_part(folder: Path) -> None:
    (folder / "model_index.json").write_text(
        json.dumps(
            json.loads((folder / "model_index.json").read_text())
            | {"../elsewhere": ["diffusers", "AutoencoderKL"]}
        )
    )


def code(folder: Path) -> None:
    (folder / "unet/my_unet.py").write_text("print('run')")


def code_of_a_text_encoder(folder: Path) -> None:
    edit(folder / "text_encoder/config.json", auto_map={"AutoModel": "model.MyModel"})


def pickled(folder: Path) -> None:
    weights = folder / "unet/diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))


def pickled_extra(folder: Path) -> None:
    (folder / "safety_checker").mkdir()
    (folder / "safety_checker/config.json").write_text("{}")
    (folder / "safety_checker/pytorch_model.bin").touch()
    checker = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    edit(folder / "model_index.json", safety_checker=checker)


def only_half_precision(folder: Path) -> None:
    weights = folder / "vae/diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_name("diffusion_pytorch_model.fp16.safetensors"))


def scheduler_with(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: edit(folder / "scheduler/scheduler_config.json", **changes)


def unet_with(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: edit(folder / "unet/config.json", **changes)


def flow_scheduler(folder: Path) -> None:
    edit(folder / "model_index.json", scheduler=["diffusers", "FlowMatchEulerDiscreteScheduler"])


def damaged(folder: Path) -> None:
    (folder / "unet/config.json").write_text('{"in_channels": 4,')


def no_mapping(folder: Path) -> None:
    (folder / "model_index.json").write_text("[]")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (unknown, "is a KandinskyPipeline, .*StableDiffusionPipeline, "),
        (own_pipeline_code, r"is a \['pipeline', 'MyPipeline'\], which is not supported"),
        (no_autoencoder, "has no folder vae"),
        (no_autoencoder_named, "has no vae; give a complete pipeline"),
        (no_scheduler_file, r"scheduler_config\.json cannot be read"),
        (no_weights, "unet has no weights; copy the pipeline again"),
        (other_library, r"its unet is my_networks\.UNet2DConditionModel, expected a stock"),
        (other_class, r"its text_encoder is transformers\.BertModel, expected a stock CLIP"),
        (foreign_extra, r"its watermark is my_networks\.Watermark, not a class of diffusers"),
        (parent_as_part, r"has no folder \.\./elsewhere"),
        (code, r"holds code \(unet/my_unet\.py\).*remove it"),
        (code_of_a_text_encoder, r"config\.json: auto_map"),
        (pickled, r"diffusion_pytorch_model\.bin is a pickle.*safe_serialization=True"),
        (pickled_extra, r"safety_checker has no safetensors, and pytorch_model\.bin is a pickle"),
        (only_half_precision, r"vae has diffusion_pytorch_model\.fp16\.safetensors, but neither"),
        (
            lambda folder: sharded(folder, "../../other.safetensors"),
            r"unsafe shard name '\.\./\.\./other\.safetensors'",
        ),
        (lambda folder: sharded(folder, "/etc/passwd"), "unsafe shard name '/etc/passwd'"),
        (lambda folder: sharded(folder, "weights.bin"), r"unsafe shard name 'weights\.bin'"),
        (lambda folder: sharded(folder, "other.safetensors"), r"shard other\.safetensors"),
        (scheduler_with(trained_betas=[0.1, 0.2]), r"scheduler_config\.json: trained_betas"),
        (
            scheduler_with(rescale_betas_zero_snr=True),
            r"scheduler_config\.json: rescale_betas_zero_snr",
        ),
        (scheduler_with(thresholding=True), r"scheduler_config\.json: thresholding"),
        (scheduler_with(beta_schedule="squaredcos_cap_v2"), "beta_schedule 'squaredcos_cap_v2'"),
        (scheduler_with(prediction_type="sample"), "prediction_type 'sample'"),
        (scheduler_with(beta_end="much"), r"schedule\.beta_end"),
        (flow_scheduler, r"its scheduler is diffusers\.FlowMatchEulerDiscreteScheduler, expected"),
        (unet_with(cross_attention_dim=48), "encoders.* 32, but unet has cross_attention_dim 48"),
        (unet_with(in_channels=9), "channels 4, but unet has in_channels 9"),
        (unet_with(out_channels=8), "latent_channels 4, but unet has out_channels 8"),
        (unet_with(in_channels=None), "for in_channels, got None"),
        (unet_with(norm_num_groups=5), r"block_channels 16: use multiples of 5"),
        (unet_with(addition_embed_type="text_time"), "addition_embed_type is 'text_time'"),
        (unet_with(time_cond_proj_dim=256), "time_cond_proj_dim is set"),
        (damaged, r"unet/config\.json is not JSON"),
        (no_mapping, r"model_index\.json: expected a JSON object, got a list"),
    ],
)
def test_a_pipeline_that_cannot_be_a_teacher_is_refused(
    spoil: Callable[[Path], None], message: str, copied: Folder
) -> None:
    folder = copied("sd")
    spoil(folder)
    with pytest.raises(BundleError, match=message):
        read_pipeline(folder)


@pytest.mark.parametrize(
    ("kind", "part", "changes", "message"),
    [
        ("sdxl", "text_encoder_2", {"hidden_size": 48}, "encoders have width 80, but unet"),
        (
            "sdxl",
            "text_encoder_2",
            {"projection_dim": 8},
            "sizes and pooled embedding have width 56",
        ),
        ("sdxl", "unet", {"addition_embed_type": None}, "addition_embed_type is None"),
        ("sd-inpaint", "unet", {"in_channels": 4}, "channels 9, but unet has in_channels"),
        ("sd3", "text_encoder_3", {"d_model": 32}, "text_encoder_3.* 32, but transformer"),
        (
            "sd3",
            "text_encoder",
            {"projection_dim": 8},
            "pooled embedding has width 40, but transformer",
        ),
        ("flux", "text_encoder_2", {"d_model": 48}, "text_encoder_2.* 48, but transformer"),
        ("flux", "transformer", {"in_channels": 4}, "packed latents have channels 16, but"),
        ("flux", "vae", {"block_out_channels": 8}, "expected a list for block_out_channels"),
        ("dit", "transformer", {"in_channels": 3}, "latent_channels 4, but transformer"),
        ("dit", "transformer", {"num_embeds_ada_norm": 0}, "for num_embeds_ada_norm, got 0"),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(
    kind: str, part: str, changes: dict[str, Any], message: str, copied: Folder
) -> None:
    folder = copied(kind)
    edit(folder / part / "config.json", **changes)
    with pytest.raises(BundleError, match=message):
        read_pipeline(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"use_karras_sigmas": True}, "use_karras_sigmas is True"),
        ({"shift_terminal": 0.02}, "shift_terminal is"),
        ({"max_image_seq_len": 256}, "its shift cannot be computed"),
    ],
)
def test_a_flow_scheduler_that_there_is_no_path_for_is_refused(
    changes: dict[str, Any], message: str, copied: Folder
) -> None:
    folder = copied("flux")
    edit(folder / "scheduler/scheduler_config.json", **changes)
    with pytest.raises(BundleError, match=message):
        read_pipeline(folder)


def test_an_epsilon_scheduler_on_a_flow_network_is_refused(copied: Folder) -> None:
    folder = copied("sd3")
    edit(folder / "model_index.json", scheduler=["diffusers", "DDIMScheduler"])
    with pytest.raises(BundleError, match=r"DDIMScheduler, expected a stock FlowMatchEuler"):
        read_pipeline(folder)


def test_a_directory_that_is_no_pipeline_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"is not a pipeline: it has no model_index\.json"):
        read_pipeline(tmp_path)
    with pytest.raises(BundleError, match="nowhere is not a directory; give one"):
        read_pipeline(tmp_path / "nowhere")


@pytest.mark.parametrize(("name", "revision"), [("org/name", "SHA"), ("org/name@12ab", "12ab")])
def test_a_hub_name_is_refused_with_the_command_that_fetches_it(name: str, revision: str) -> None:
    with pytest.raises(BundleError, match=f"hf download org/name --revision {revision} --local"):
        read_pipeline(Path(name))
