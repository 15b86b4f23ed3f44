"""Read a diffusers pipeline directory as data: its network, noise path and latent shape.

Torch is not imported, so that a recipe with a pipeline is validated quickly.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import NonNegativeInt, PositiveInt

from pipeline.config import Network, PredictionName, ScheduleConfig
from pipeline.documents import Document, build
from pipeline.errors import BundleError, ConfigError
from pipeline.models.directory import pipeline_network as network
from pipeline.models.directory.pipeline_files import (
    check_data_only,
    check_parts,
    read_index,
    read_json,
)
from pipeline.models.directory.pipeline_scheduler import (
    DISCRETE,
    FLOW,
    discrete_path,
    flow_path,
    flow_shift,
)

_TOKEN_SIDE = 2  # one token is 2 x 2 latents

_CLIP = ("CLIPTokenizer", "CLIPTokenizerFast")
_T5 = ("T5Tokenizer", "T5TokenizerFast")


class PipelineInfo(Document):
    """Description of a pipeline directory.

    Attributes:
        pipeline: class of the pipeline.
        network: its denoising network.
        schedule: its noise path, with the shift for its own resolution.
        prediction: prediction type of its network.
        latent_shape: (channels, height, width) of its latents.
        network_folder: sub-folder of the network.
        num_classes: classes of a class-conditional network, else 0.
        downsampling: pixels per latent along one side.
    """

    pipeline: str
    network: Network
    schedule: ScheduleConfig
    prediction: PredictionName
    latent_shape: tuple[PositiveInt, PositiveInt, PositiveInt]
    network_folder: Literal["unet", "transformer"]
    num_classes: NonNegativeInt
    downsampling: PositiveInt


@dataclass(frozen=True)
class _Kind:
    """A stock pipeline class that can run students without extra code.

    Attributes:
        describe: reads the configuration of its network.
        parts: its required parts and their supported classes.
    """

    describe: Callable[[network.PartConfigs], network.NetworkFields]
    parts: dict[str, tuple[str, ...]]


_VAE = {"vae": ("AutoencoderKL",)}
_ONE_CLIP = {"text_encoder": ("CLIPTextModel",), "tokenizer": _CLIP, **_VAE}
_UNET = {"unet": ("UNet2DConditionModel",), "scheduler": DISCRETE}
_PROJECTED = ("CLIPTextModelWithProjection",)

_KINDS = {
    "StableDiffusionPipeline": _Kind(network.stable_diffusion, _UNET | _ONE_CLIP),
    "StableDiffusionInpaintPipeline": _Kind(network.inpainting, _UNET | _ONE_CLIP),
    "StableDiffusionXLPipeline": _Kind(
        network.stable_diffusion_xl,
        _UNET | _ONE_CLIP | {"text_encoder_2": _PROJECTED, "tokenizer_2": _CLIP},
    ),
    "DiTPipeline": _Kind(
        network.dit,
        # published DiTs have the old name of the class
        {"transformer": ("DiTTransformer2DModel", "Transformer2DModel"), "scheduler": DISCRETE}
        | _VAE,
    ),
    "StableDiffusion3Pipeline": _Kind(
        network.stable_diffusion_3,
        {"transformer": ("SD3Transformer2DModel",), "scheduler": FLOW, **_VAE}
        | {"text_encoder": _PROJECTED, "tokenizer": _CLIP}
        | {"text_encoder_2": _PROJECTED, "tokenizer_2": _CLIP}
        | {"text_encoder_3": ("T5EncoderModel",), "tokenizer_3": _T5},
    ),
    "FluxPipeline": _Kind(
        network.flux,
        {"transformer": ("FluxTransformer2DModel",), "scheduler": FLOW, **_ONE_CLIP}
        | {"text_encoder_2": ("T5EncoderModel",), "tokenizer_2": _T5},
    ),
}


def read_pipeline(directory: Path) -> PipelineInfo:
    """Read a pipeline directory, as `save_pretrained` writes it.

    Raises:
        BundleError: not a diffusers pipeline directory, a part is missing or not a stock class,
            parts do not match, it holds code or pickles, or its scheduler has no supported path.
    """
    index = read_index(directory)
    name = str(index.get("_class_name"))
    kind = _KINDS.get(name)
    if kind is None:
        raise BundleError(
            f"{directory} is a {name}, which is not supported; use one of {', '.join(_KINDS)}"
        )
    check_parts(directory, index, kind.parts)
    check_data_only(directory, index)
    configs = network.PartConfigs(directory)
    found = kind.describe(configs)
    schedule, prediction = _path(directory, name, found)
    tree = {
        "pipeline": name,
        "network": found.network,
        "schedule": schedule,
        "prediction": prediction,
        "latent_shape": found.latent_shape,
        "network_folder": "unet" if "unet" in kind.parts else "transformer",
        "num_classes": found.num_classes,
        "downsampling": configs.downsampling(),
    }
    try:
        return build(PipelineInfo, tree, str(directory))
    except ConfigError as error:
        raise BundleError(f"{error}; the pipeline's configuration is not supported") from None


def _path(directory: Path, name: str, found: network.NetworkFields) -> tuple[dict[str, Any], str]:
    path = directory / "scheduler" / "scheduler_config.json"
    scheduler = read_json(path)
    if _KINDS[name].parts["scheduler"] is DISCRETE:
        return discrete_path(scheduler, path)
    fields = flow_path(scheduler, path)
    _, height, width = found.latent_shape
    try:
        fields["shift"] = flow_shift(scheduler, height * width // _TOKEN_SIDE**2)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise BundleError(f"{path}: its shift cannot be computed ({error})") from None
    return fields, "flow_prediction"
