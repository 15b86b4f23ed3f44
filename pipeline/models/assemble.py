"""Build denoisers from a recipe or manifest, and load and save bundles."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from pipeline.bundle import MANIFEST, Lineage, Manifest, read_manifest
from pipeline.class_names import names_to_record
from pipeline.config import ScheduleConfig, TeacherConfig
from pipeline.diffusion.prediction import PredictionType
from pipeline.diffusion.schedule import (
    CosineSchedule,
    DiscreteSchedule,
    NoiseSchedule,
    RectifiedFlow,
)
from pipeline.errors import BundleError
from pipeline.models.denoiser import Denoiser, GuidedDenoiser, NetworkDenoiser
from pipeline.models.family import FAMILIES, ModelFamily
from pipeline.shapes import LatentShape
from pipeline.tensors import Condition

NULL = "null.safetensors"
"""In a teacher's bundle: the embedding of the empty prompt, one row."""


def schedule_of(config: ScheduleConfig) -> NoiseSchedule:
    """Build the noise schedule of a configuration."""
    match config.kind:
        case "cosine":
            return CosineSchedule(config.num_train_timesteps)
        case "scaled_linear":
            return DiscreteSchedule.scaled_linear(
                config.num_train_timesteps, config.beta_start, config.beta_end
            )
        case "linear":
            return DiscreteSchedule.linear(
                config.num_train_timesteps, config.beta_start, config.beta_end
            )
        case "rectified_flow":
            return RectifiedFlow(config.num_train_timesteps, config.shift)


def fresh_manifest(
    teacher: TeacherConfig,
    num_classes: int,
    latent_shape: LatentShape,
    lineage: Lineage,
    class_names: Sequence[str] = (),
) -> Manifest:
    """Build the manifest of a guided teacher trained from a recipe."""
    return Manifest(
        role="teacher",
        network=teacher.network,
        num_classes=num_classes,
        class_names=names_to_record(class_names),
        latent_shape=latent_shape,
        schedule=teacher.schedule,
        prediction_type=teacher.prediction,
        folder=FAMILIES.get(teacher.network.family).folder,
        pipeline=teacher.trained_pipeline,
        lineage=lineage,
    )


def family_of(manifest: Manifest, null: Condition | None = None) -> ModelFamily:
    """Build the model family of a manifest; `null` is its null condition, one row."""
    return FAMILIES.get(manifest.network.family)(
        network=manifest.network,
        num_classes=manifest.num_classes,
        latent_shape=manifest.latent_shape,
        num_timesteps=manifest.schedule.num_train_timesteps,
        null=null,
    )


def network_denoiser(
    manifest: Manifest, module: nn.Module, null: Condition | None = None
) -> NetworkDenoiser:
    """Wrap a network as a denoiser without guidance, w-conditioned if it has a w input."""
    return NetworkDenoiser(
        family_of(manifest, null),
        module,
        schedule_of(manifest.schedule),
        PredictionType(manifest.prediction_type),
        is_w_conditioned=manifest.is_w_conditioned,
        baked_w=manifest.baked_w,
    )


def denoiser_of(manifest: Manifest, module: nn.Module, null: Condition | None = None) -> Denoiser:
    """Build a bundle's denoiser: a guided teacher, or a w-conditioned student.

    `null` is the null condition of a teacher that is not class-conditional.
    """
    network = network_denoiser(manifest, module, null)
    is_guided = manifest.role == "teacher" and not manifest.is_w_conditioned
    return GuidedDenoiser(network) if is_guided else network


def load_module(bundle: Path, manifest: Manifest) -> nn.Module:
    """Load the network of a bundle, float32, frozen, in evaluation mode.

    Raises:
        BundleError: its weights are missing, damaged, or do not match the manifest.
    """
    folder = bundle / manifest.folder
    try:
        module = family_of(manifest).load(folder, is_w_conditioned=manifest.is_w_conditioned)
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        raise BundleError(
            f"{folder} does not hold the weights of the {manifest.role} in its manifest "
            f"({' '.join(str(error).split())[:200]}); copy or distil it again"
        ) from error
    return module.requires_grad_(requires_grad=False)


def load_denoiser(
    bundle: Path,
    device: torch.device | None = None,
    wrap: Callable[[nn.Module], nn.Module] | None = None,
) -> tuple[Manifest, Denoiser]:
    """Load a bundle's manifest and denoiser.

    Args:
        bundle: its directory.
        device: device of the network; None for the CPU.
        wrap: replaces the network by the module to be called.

    Raises:
        BundleError: the directory is not a bundle, or its weights are damaged.
    """
    manifest = read_manifest(bundle)
    module = load_module(bundle, manifest).to(device or "cpu")
    if wrap is not None:
        module = wrap(module)
    return manifest, denoiser_of(manifest, module, _load_null(bundle))


def _load_null(bundle: Path) -> Condition | None:
    path = bundle / NULL
    return load_file(path) if path.is_file() else None


def save_bundle(
    bundle: Path, manifest: Manifest, module: nn.Module, null: Condition | None = None
) -> None:
    """Write a bundle into the directory `bundle`; the caller commits it."""
    bundle.mkdir(parents=True, exist_ok=True)
    family_of(manifest).save(module, bundle / manifest.folder)
    if null is not None:
        save_file({key: value.contiguous() for key, value in null.items()}, bundle / NULL)
    (bundle / MANIFEST).write_text(manifest.model_dump_json(indent=1), encoding="utf-8")
