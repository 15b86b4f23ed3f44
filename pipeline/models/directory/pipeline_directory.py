"""Read a diffusers pipeline directory as data: its network, noise path and latent shape.

Torch is not imported, so that a recipe with a pipeline is validated quickly.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from pipeline.class_names import names_to_record
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

FLOW = ("FlowMatchEulerDiscreteScheduler",)
DISCRETE = (
    "DDIMScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "UniPCMultistepScheduler",
)
"""Schedulers on a table of betas; their sampling rules differ, but the noise path is the same."""

BETAS = ("beta_start", "beta_end", "beta_schedule", "num_train_timesteps", "prediction_type")
"""Keys of a table of betas that are read."""

UNSUPPORTED_DISCRETE = (
    "trained_betas",
    "rescale_betas_zero_snr",
    "thresholding",
    "use_flow_sigmas",
)
SHIFTS = (
    "num_train_timesteps",
    "shift",
    "use_dynamic_shifting",
    "base_shift",
    "max_shift",
    "base_image_seq_len",
    "max_image_seq_len",
    "time_shift_type",
)
"""Keys of a straight path that are read."""

UNSUPPORTED_FLOW = (
    "shift_terminal",
    "invert_sigmas",
    "use_karras_sigmas",
    "use_exponential_sigmas",
    "use_beta_sigmas",
    "stochastic_sampling",
)

_CLIPPING = ("DDIMScheduler", "DDPMScheduler")  # clip_sample is true by default
_UNCLIPPED = "StableDiffusionPipeline"  # sets clip_sample to false itself
_EULER = ("EulerDiscreteScheduler",)
_NARROW_BETAS = (
    "HeunDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
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
        class_names: their names in `id2label`; empty if they are numbers only.
        downsampling: pixels per latent along one side.
    """

    pipeline: str
    network: Network
    schedule: ScheduleConfig
    prediction: PredictionName
    latent_shape: tuple[PositiveInt, PositiveInt, PositiveInt]
    network_folder: Literal["unet", "transformer"]
    num_classes: NonNegativeInt
    class_names: tuple[str, ...] = Field(default=(), exclude_if=lambda names: not names)
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
    _check_latent_scaling(configs, name)
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
        "class_names": _class_names(directory, index, found.num_classes),
        "downsampling": configs.downsampling(),
    }
    try:
        return build(PipelineInfo, tree, str(directory))
    except ConfigError as error:
        raise BundleError(f"{error}; the pipeline's configuration is not supported") from None


def _class_names(directory: Path, index: dict[str, Any], num_classes: int) -> tuple[str, ...]:
    """Read the names that a class-conditional pipeline has for its classes, if any."""
    table = index.get("id2label")
    if not num_classes or table is None:
        return ()
    places = [str(label) for label in range(num_classes)]
    if not isinstance(table, dict) or set(table) != set(places):
        found = f"{len(table)} entries" if isinstance(table, dict) else repr(table)
        raise BundleError(
            f"{directory / 'model_index.json'}: id2label has {found}, expected a name for each "
            f"class 0 to {num_classes - 1}; complete it, or remove it if data have numbered classes"
        )
    return names_to_record([str(table[place]) for place in places])


_STATISTICS = ("latents_mean", "latents_std")
_SHIFTED = ("StableDiffusion3Pipeline", "FluxPipeline")
_NORMALISED = "StableDiffusionXLPipeline"


def _check_latent_scaling(configs: network.PartConfigs, name: str) -> None:
    """Check that the pipeline class applies the autoencoder's shift and channel statistics.

    Each class applies some of them and ignores the others, so what the network was trained on
    would be unknown.
    """
    given = {key: configs.get("vae", key) for key in ("shift_factor", *_STATISTICS)}
    applied: tuple[str, ...] = ("shift_factor",) if name in _SHIFTED else ()
    if name == _NORMALISED:
        given = _checked_statistics(configs, given)
        applied = _STATISTICS
    for key, value in given.items():
        if value and key not in applied:
            raise BundleError(
                f"{configs.path('vae')}: {key} is {value!r}, but {name} does not apply it; set it "
                "to null if the network was trained without it"
            )


def _checked_statistics(configs: network.PartConfigs, given: dict[str, Any]) -> dict[str, Any]:
    channels = configs.number("vae", "latent_channels")
    for key, other in (_STATISTICS, _STATISTICS[::-1]):
        value = given[key]
        if value is None and given[other] is None:
            continue
        is_list = isinstance(value, list) and len(value) == channels
        if not is_list or not all(isinstance(each, (int, float)) for each in value):
            raise BundleError(
                f"{configs.path('vae')}: {key} is {value!r}, expected {channels} numbers, as many "
                f"as latent_channels; set it, or set {_STATISTICS[0]} and {_STATISTICS[1]} to null"
            )
        if key == "latents_std" and not all(each > 0 for each in value):
            raise BundleError(
                f"{configs.path('vae')}: latents_std is {value!r}, expected numbers above 0; copy "
                "the pipeline again"
            )
    return given


def _path(directory: Path, name: str, found: network.NetworkFields) -> tuple[dict[str, Any], str]:
    path = directory / "scheduler" / "scheduler_config.json"
    scheduler = read_json(path)
    if _KINDS[name].parts["scheduler"] is DISCRETE:
        _, scheduler_class = read_index(directory)["scheduler"]
        if name != _UNCLIPPED:
            _check_unclipped(scheduler, scheduler_class, path)
        return discrete_path(scheduler, scheduler_class, path)
    fields = flow_path(scheduler, path)
    _, height, width = found.latent_shape
    try:
        fields["shift"] = flow_shift(scheduler, height * width // _TOKEN_SIDE**2)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise BundleError(f"{path}: its shift cannot be computed ({error})") from None
    return fields, "flow_prediction"


def discrete_path(
    scheduler: dict[str, Any], scheduler_class: str, path: Path
) -> tuple[dict[str, Any], str]:
    """Read the `ScheduleConfig` fields of a table of betas, and the prediction type.

    Missing keys have diffusers' defaults for the class. Keys that are not read choose sampling
    times and steps, which the recipe
    sets.

    Raises:
        BundleError: the noise path is not supported.
    """
    _check_unset(scheduler, UNSUPPORTED_DISCRETE, path)
    kind = scheduler.get("beta_schedule", "linear")
    if kind not in ("linear", "scaled_linear"):
        raise BundleError(
            f"{path}: beta_schedule {kind!r} is not supported; use linear or scaled_linear"
        )
    prediction = scheduler.get("prediction_type", "epsilon")
    if prediction not in ("epsilon", "v_prediction"):
        raise BundleError(
            f"{path}: prediction_type {prediction!r} is not supported; use epsilon or v_prediction"
        )
    if scheduler.get("timestep_type") == "continuous" and scheduler_class in _EULER:
        raise BundleError(
            f"{path}: timestep_type 'continuous' is not supported: such a network takes the "
            "logarithm of the noise level, not a timestep; set it to discrete if the network was "
            "trained on timesteps"
        )
    start, end = (0.00085, 0.012) if scheduler_class in _NARROW_BETAS else (0.0001, 0.02)
    fields = {
        "kind": kind,
        "num_train_timesteps": scheduler.get("num_train_timesteps", 1000),
        "beta_start": scheduler.get("beta_start", start),
        "beta_end": scheduler.get("beta_end", end),
    }
    return fields, prediction


def flow_path(scheduler: dict[str, Any], path: Path) -> dict[str, Any]:
    """Read the `ScheduleConfig` fields of a straight path; its shift is `flow_shift`.

    Raises:
        BundleError: the noise path is not supported.
    """
    _check_unset(scheduler, UNSUPPORTED_FLOW, path)
    kind = scheduler.get("time_shift_type", "exponential")
    if kind not in ("exponential", "linear"):
        raise BundleError(
            f"{path}: time_shift_type {kind!r} is not supported; use exponential or linear"
        )
    return {
        "kind": "rectified_flow",
        "num_train_timesteps": scheduler.get("num_train_timesteps", 1000),
    }


def flow_shift(scheduler: dict[str, Any], tokens: int) -> float:
    """Compute the time shift that `FluxPipeline` uses for an image of this many tokens.

    With dynamic shifting it grows with the image: mu is linear in the number of tokens, and the
    shift is e^mu, or mu itself with `time_shift_type: linear`.

    Source: diffusers, `pipeline_flux.calculate_shift` and
    `FlowMatchEulerDiscreteScheduler.time_shift`.
    """
    if not scheduler.get("use_dynamic_shifting"):
        return float(scheduler.get("shift", 1.0))
    fewest = scheduler.get("base_image_seq_len", 256)
    most = scheduler.get("max_image_seq_len", 4096)
    least, greatest = scheduler.get("base_shift", 0.5), scheduler.get("max_shift", 1.15)
    mu = least + (greatest - least) / (most - fewest) * (tokens - fewest)
    is_linear = scheduler.get("time_shift_type", "exponential") == "linear"
    return float(mu if is_linear else math.exp(mu))


def _check_unclipped(scheduler: dict[str, Any], scheduler_class: str, path: Path) -> None:
    """Check that the pipeline does not clip the predicted clean latents in every step."""
    if scheduler.get("clip_sample", scheduler_class in _CLIPPING) and (
        scheduler_class in (*_CLIPPING, "HeunDiscreteScheduler")
    ):
        found = "is true" if "clip_sample" in scheduler else "is missing, and true by default"
        raise BundleError(
            f"{path}: clip_sample {found}, so its pipeline clips every prediction of the clean "
            f"latent to +-{scheduler.get('clip_sample_range', 1.0)}, which is not supported; set "
            "clip_sample: false if the network was trained on latents that are not clipped"
        )


def _check_unset(scheduler: dict[str, Any], unsupported: tuple[str, ...], path: Path) -> None:
    for key in unsupported:
        if scheduler.get(key):
            raise BundleError(
                f"{path}: {key} is {scheduler[key]!r}, which changes the noise path and is not "
                "supported; remove the key if the network was not trained with it"
            )
