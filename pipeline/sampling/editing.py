"""Image editing with a student on its own grid: SDEdit and inpainting.

SDEdit noises an image to a time i/N of the N-step grid and takes the last i steps from there, with
the sampler that the student was distilled for.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float32

from pipeline.diffusion.ddim import Noise
from pipeline.diffusion.ddim import sample as step_by_step
from pipeline.diffusion.grid import nearest_point
from pipeline.diffusion.schedule import diffuse
from pipeline.errors import BundleError, ConfigError
from pipeline.models.unet.inpainting import Inpainting, Masks
from pipeline.randomness import RowRandom
from pipeline.sampling.sampler import BundleSampler, Images, LabelArray, channels_first
from pipeline.sampling.solvers import default_sampler
from pipeline.tensors import Condition, Latent

_GRID_TOLERANCE = 1e-6  # in t; larger than the rounding error of typed strengths


@dataclass(frozen=True)
class EditTarget:
    """The target of an edit.

    Attributes:
        conditions: class of each image, int64 `[n]`, or prompt of each image.
        w: guidance weight; 0 is unguided.
        seed: seed of the noise.
    """

    conditions: LabelArray | tuple[str, ...]
    w: float
    seed: int = 0


def nearest_step(strength: float, steps: int) -> int:
    """Compute the number of steps i for which i/N is nearest to a strength in (0, 1].

    Stock image-to-image pipelines round down instead.

    Raises:
        ConfigError: the strength is out of range, or rounds to 0 steps.
    """
    if not 0 < strength <= 1:
        raise ConfigError(
            f"--strength {strength:g} is out of range; use a number above 0 and up to 1 (at 1, "
            "nothing of the image is kept)"
        )
    taken = nearest_point(strength, steps)
    if taken == 0:
        raise ConfigError(
            f"--strength {strength:g} rounds to 0 of {steps} steps, so the image would not change; "
            f"use {1 / steps:g} or more, or a student of more steps"
        )
    return taken


def is_on_grid(strength: float, steps: int) -> bool:
    """Whether the strength is a time of the N-step grid."""
    return abs(strength * steps - nearest_step(strength, steps)) < _GRID_TOLERANCE * steps


@torch.inference_mode()
def edit(
    opened: BundleSampler,
    pictures: Images,
    target: EditTarget,
    *,
    steps: int,
    taken: int,
    first: int = 0,
) -> Images:
    """Resample images from the time `taken / steps`; more steps keep less of the image.

    Args:
        opened: a student or a teacher.
        pictures: images in [-1, 1], one per condition.
        target: target of the edit.
        steps: N of the grid.
        taken: steps to take, 1..N. With all N, sampling starts from pure noise.
        first: row of the first image in the seed's noise stream.

    Raises:
        BundleError: the bundle does not support this use.

    Source: Meng et al. 2021, arXiv:2108.01073 (SDEdit); 2022, arXiv:2210.03142, text-guided
    image-to-image translation.
    """
    if opened.is_inpainting:
        raise BundleError("inpainting networks need a mask; use stepfold inpaint")
    opened.check(steps=steps, w=target.w)
    opened.check_conditions(target.conditions)
    x = latents_of(opened, pictures)
    random = RowRandom((target.seed,), first, len(x))
    noise = random.normal("z_1", *x.shape[1:]).to(x)
    t = torch.full((len(x),), taken / steps, dtype=torch.float64, device=opened.device)
    z_t = noise if taken == steps else diffuse(x, noise, opened.denoiser.schedule.at(t))
    added = _added(opened, random, steps)
    condition = opened.condition(target.conditions)
    drawn = sample_from(opened, z_t, condition, target.w, steps=steps, taken=taken, added=added)
    return opened.finished(drawn)


@torch.inference_mode()
def inpaint(
    opened: BundleSampler, pictures: Images, masks: Masks, target: EditTarget, *, steps: int
) -> Images:
    """Inpaint images where the masks are 1; all other pixels are unchanged.

    Args:
        opened: an inpainting student or teacher.
        pictures: images in [-1, 1], one per condition.
        masks: 1 where to paint.
        target: target of the edit.
        steps: N of the sampler.

    Raises:
        BundleError: the bundle does not support this use.
        ConfigError: a mask is empty at the resolution of latents.

    Source: Meng et al. 2022, arXiv:2210.03142, image inpainting.
    """
    if not isinstance(opened.stock, Inpainting):
        raise BundleError(
            "this network has no mask input; use a student of an inpainting teacher (see "
            "captions-inpaint.yaml), or stepfold edit to change the whole image"
        )
    opened.check(steps=steps, w=target.w)
    opened.check_conditions(target.conditions)
    masked = opened.stock.around(channels_first(pictures), masks)
    if not bool((masked["image"][:, :1] > 0).flatten(1).any(dim=1).all()):
        raise ConfigError("the mask is empty at the resolution of latents; use a larger mask")
    random = RowRandom((target.seed,), 0, len(pictures))
    noise = random.normal("z_1", *opened.manifest.latent_shape).to(opened.device)
    added = _added(opened, random, steps)
    condition = {**opened.condition(target.conditions), **masked}
    drawn = sample_from(opened, noise, condition, target.w, steps=steps, taken=steps, added=added)
    painted = opened.finished(drawn)
    inside: Float32[torch.Tensor, "b h w 1"] = masks.permute(0, 2, 3, 1).float()
    kept: Images = torch.where(
        inside > 0, torch.from_numpy(painted), torch.from_numpy(pictures)
    ).numpy()
    return kept


def latents_of(opened: BundleSampler, pictures: Images) -> Latent:
    """Convert images to network inputs: pixels, or the autoencoder's means."""
    pixels = channels_first(pictures).to(opened.device)
    return pixels if opened.stock is None else opened.stock.to_latents(pixels)


def _added(opened: BundleSampler, random: RowRandom, steps: int) -> Noise | None:
    """Return the renoising function of a stochastic student; None for a deterministic one."""
    is_stochastic = default_sampler(opened.manifest) == "stochastic"
    return opened.noise_function(random, steps) if is_stochastic else None


def sample_from(
    opened: BundleSampler,
    z_t: Latent,
    condition: Condition,
    w: float,
    *,
    steps: int,
    taken: int,
    added: Noise | None = None,
) -> Latent:
    """Sample from time taken/steps to clean samples by the last `taken` steps of N.

    Stochastic with `added`, the noise added where the next step begins; else deterministic.
    """
    weight = torch.full((len(z_t),), w, dtype=torch.float64, device=opened.device)

    return step_by_step(
        z_t,
        opened.denoiser.schedule,
        steps,
        lambda z, level: opened.denoiser(z, level, condition, weight),
        remaining=taken,
        noise=added,
    )
