"""A teacher is tried on noise before a run: does its network predict what its scheduler says?

A v-network read as an eps-network distils without an error, into a student of nothing.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional

from pipeline.bundle import Manifest
from pipeline.config import Recipe, UNetConfig
from pipeline.diffusion.prediction import Prediction, PredictionType, express
from pipeline.diffusion.schedule import NoiseSchedule, diffuse
from pipeline.errors import BundleError
from pipeline.models.assemble import family_of, load_module, schedule_of
from pipeline.models.family import ModelFamily
from pipeline.tensors import Condition, Latent, PerSample
from stages.teacher.adopt import pipeline_manifest, pipeline_of

_SIGNAL_SHARES = (0.3, 0.2)
"""alpha^2 of the levels: an eps and a v are far apart there, and both can be told from z_t."""

_PER_LEVEL = 4
_SMOOTHNESS = 4  # latent pixels in which samples change little
_TOKENS = 8
_PIXELS = 8  # along the side of one latent, in published autoencoders
_KNOWS = 0.5
_CLEARLY = 2.0


@dataclass(frozen=True)
class Trial:
    """Mean squared error of the output over the mean square of what it should be.

    0 is perfect and 1 is an output of zeros, or any that knows nothing.

    Attributes:
        epsilon: read as epsilon.
        v_prediction: read as v.
    """

    epsilon: float
    v_prediction: float


def check_prediction(recipe: Recipe) -> None:
    """Refuse a `teacher.pipeline` whose weights contradict its scheduler.

    Only a contradiction is refused: the other reading explains more than half of what it should,
    and its error is less than half of that of the declared one. Untrained weights pass.

    Raises:
        BundleError: naming both readings; or the weights cannot be loaded.
    """
    directory, manifest = pipeline_of(recipe), pipeline_manifest(recipe)
    declared_type = manifest.prediction_type
    trial = try_network(directory, manifest)
    if trial is None:
        return
    errors = {"epsilon": trial.epsilon, "v_prediction": trial.v_prediction}
    declared = errors.pop(declared_type)
    other, error = errors.popitem()
    if error < _KNOWS and declared >= _CLEARLY * error:
        raise BundleError(
            f"{directory}: its scheduler says prediction_type {declared_type}, but its network "
            f"predicts {other} (relative error {error:.2f} read as that, {declared:.2f} as "
            f"declared); set prediction_type: {other} in scheduler/scheduler_config.json"
        )


@torch.no_grad()
def try_network(bundle: Path, manifest: Manifest) -> Trial | None:
    """Ask the network in `bundle` for one fixed batch and compare with both things it may be.

    None for a network of flow matching, which predicts one thing only.

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
    return Trial(
        **{
            kind.value: _relative_error(output, express(truth, kind, level))
            for kind in (PredictionType.EPSILON, PredictionType.V)
        }
    )


def _times(schedule: NoiseSchedule) -> PerSample:
    """The times at which alpha^2 is nearest to the shares, float64 `[b]`."""
    grid = schedule.grid(schedule.num_train_timesteps)
    shares = schedule.at(grid).alpha ** 2
    nearest = [int((shares - share).abs().argmin()) for share in _SIGNAL_SHARES]
    return grid[nearest].repeat_interleave(_PER_LEVEL)


def _batch(count: int, shape: tuple[int, int, int]) -> tuple[Latent, Latent]:
    """Samples like an image's latents in that neighbours are alike, and noise; of variance 1."""
    generator = torch.Generator().manual_seed(0)
    channels, height, width = shape
    coarse = (max(1, height // _SMOOTHNESS), max(1, width // _SMOOTHNESS))
    drawn = torch.randn(count, channels, *coarse, generator=generator)
    x = functional.interpolate(drawn, (height, width), mode="bilinear")
    return x / x.std(), torch.randn(count, *shape, generator=generator)


def _condition(family: ModelFamily, count: int) -> Condition:
    """A condition that says nothing, as far as it is known without a text encoder."""
    network = family.network
    if not isinstance(network, UNetConfig) or network.text_channels is None:
        return {"label": torch.full((count,), family.num_classes)}
    _, height, width = family.latent_shape
    condition: Condition = {"text": torch.zeros(count, _TOKENS, network.text_channels)}
    if network.pooled_channels is not None:
        side = [float(_PIXELS * height), float(_PIXELS * width)]
        condition["pooled"] = torch.zeros(count, network.pooled_channels)
        condition["time_ids"] = torch.tensor([[*side, 0.0, 0.0, *side]]).expand(count, -1)
    if network.image_channels:
        condition["image"] = torch.zeros(count, network.image_channels, height, width)
        condition["image"][:, 0] = 1.0  # all is masked, so that all is to be drawn
    return condition


def _relative_error(output: Latent, truth: Latent) -> float:
    return float((output - truth).square().mean() / truth.square().mean())
