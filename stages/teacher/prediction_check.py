"""Prediction-type check of an adopted teacher on noised samples, before a run.

A v-prediction network treated as an epsilon network distils without an error into a useless
student.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional

from pipeline.bundle import Manifest
from pipeline.config import Recipe
from pipeline.diffusion.prediction import Prediction, PredictionType, express
from pipeline.diffusion.schedule import NoiseSchedule, diffuse
from pipeline.errors import BundleError
from pipeline.models.assemble import family_of, load_module, schedule_of
from pipeline.models.family import ModelFamily
from pipeline.shapes import LatentShape
from pipeline.tensors import Condition, Latent, PerSample
from stages.teacher.adopt import pipeline_manifest, pipeline_of

_SIGNAL_SHARES = (0.3, 0.2)
"""alpha^2 of the levels: epsilon and v differ clearly there, and both can be estimated from z_t."""

_PER_LEVEL = 4
_SMOOTHNESS = 4  # latent pixels in which samples change little
_TOKENS = 8
_PIXELS = 8  # along the side of one latent, in published autoencoders
_MAX_OTHER_ERROR = 0.5
_MIN_ERROR_RATIO = 2.0


@dataclass(frozen=True)
class PredictionErrors:
    """Mean squared error of the network output, relative to the mean square of the target.

    0 is perfect; 1 is an output of zeros.

    Attributes:
        epsilon: error as epsilon prediction.
        v_prediction: error as v prediction.
    """

    epsilon: float
    v_prediction: float


def check_prediction(recipe: Recipe) -> None:
    """Reject a `teacher.pipeline` whose weights contradict its scheduler.

    Only a clear contradiction is an error: under the other type the relative error is below one
    half, and less than half of the error under the declared type. Untrained weights pass.

    Raises:
        BundleError: the weights contradict the scheduler, or cannot be loaded.
    """
    directory, manifest = pipeline_of(recipe), pipeline_manifest(recipe)
    declared_type = manifest.prediction_type
    measured = measure_errors(directory, manifest)
    if measured is None:
        return
    errors = {"epsilon": measured.epsilon, "v_prediction": measured.v_prediction}
    declared = errors.pop(declared_type)
    other, error = errors.popitem()
    if error < _MAX_OTHER_ERROR and declared >= _MIN_ERROR_RATIO * error:
        raise BundleError(
            f"{directory}: scheduler/scheduler_config.json declares prediction_type "
            f"{declared_type}, but the network predicts {other} (relative error {error:.2f} as "
            f"{other}, {declared:.2f} as declared); set prediction_type: {other} there"
        )


@torch.no_grad()
def measure_errors(bundle: Path, manifest: Manifest) -> PredictionErrors | None:
    """Run the network in `bundle` on one fixed batch, and compare with both prediction types.

    Returns None for flow-matching networks, which have one prediction type only.

    Raises:
        BundleError: its weights cannot be loaded.
    """
    if not manifest.schedule.is_discrete:
        return None
    module = load_module(bundle, manifest)
    family, schedule = family_of(manifest), schedule_of(manifest.schedule)
    level = schedule.at(_times(schedule))
    x, eps = _batch(len(level.t), manifest.latent_shape)
    z_t = diffuse(x, eps, level)
    condition = _condition(family, len(x))
    output = family.forward(module, z_t, schedule.timestep(level), condition, None)
    truth = Prediction(x=x, eps=eps)
    return PredictionErrors(
        **{
            kind.value: _relative_error(output, express(truth, kind, level))
            for kind in (PredictionType.EPSILON, PredictionType.V)
        }
    )


def _times(schedule: NoiseSchedule) -> PerSample:
    """Return the times at which alpha^2 is nearest to the shares, float64 `[b]`."""
    grid = schedule.grid(schedule.num_train_timesteps)
    shares = schedule.at(grid).alpha ** 2
    nearest = [int((shares - share).abs().argmin()) for share in _SIGNAL_SHARES]
    return grid[nearest].repeat_interleave(_PER_LEVEL)


def _batch(count: int, shape: LatentShape) -> tuple[Latent, Latent]:
    """Return smooth samples, like an image's latents, and noise; both of variance 1."""
    generator = torch.Generator().manual_seed(0)
    channels, height, width = shape
    coarse = (max(1, height // _SMOOTHNESS), max(1, width // _SMOOTHNESS))
    drawn = torch.randn(count, channels, *coarse, generator=generator)
    x = functional.interpolate(drawn, (height, width), mode="bilinear")
    return x / x.std(), torch.randn(count, *shape, generator=generator)


def _condition(family: ModelFamily, count: int) -> Condition:
    """Return an uninformative condition, made without a text encoder."""
    network = family.network
    if not network.reads_text:
        return {"label": torch.full((count,), family.num_classes)}
    _, height, width = family.latent_shape
    token, pooled = network.embedding_widths
    condition: Condition = {"text": torch.zeros(count, _TOKENS, token)}
    if pooled:
        side = [float(_PIXELS * height), float(_PIXELS * width)]
        condition["pooled"] = torch.zeros(count, pooled)
        condition["time_ids"] = torch.tensor([[*side, 0.0, 0.0, *side]]).expand(count, -1)
    if network.is_inpainting:
        condition["image"] = torch.zeros(count, network.extra_channels, height, width)
        condition["image"][:, 0] = 1.0  # everything is masked, so everything is painted
    return condition


def _relative_error(output: Latent, truth: Latent) -> float:
    return float((output - truth).square().mean() / truth.square().mean())
