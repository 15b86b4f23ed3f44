"""Pictures changed by a student on its own grid: redrawn from part of the way, or painted into.

A picture is noised to a time i/N of the N-step grid, and the last i steps are taken from there, by
the sampler that the student was distilled for; the network sees nothing else.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float32

from pipeline.diffusion.grid import nearest_point
from pipeline.diffusion.schedule import diffuse
from pipeline.diffusion.solver import Noise
from pipeline.diffusion.solver import sample as step_by_step
from pipeline.errors import BundleError, ConfigError
from pipeline.models.unet.inpainting import Inpainting, Masks
from pipeline.randomness import RowRandom
from pipeline.sampling.sampler import BundleSampler, Images, LabelArray, channels_first
from pipeline.sampling.solvers import own_sampler
from pipeline.tensors import Condition, Latent

_ON_A_STEP = 1e-6  # of the whole way: what a person types is rounded by less


@dataclass(frozen=True)
class Wish:
    """What pictures are to become.

    Attributes:
        asked: the class of each, int64 `[n]`, or the prompt of each.
        w: guidance weight; 0 is unguided.
        seed: of the noise.
    """

    asked: LabelArray | tuple[str, ...]
    w: float
    seed: int = 0


def nearest_step(strength: float, steps: int) -> int:
    """The i for which i/N is nearest to a strength in (0, 1]: how many of N steps are taken.

    Stock image-to-image pipelines round down instead.

    Raises:
        ConfigError: the strength is out of range, or nearest to 0, where nothing would change.
    """
    if not 0 < strength <= 1:
        raise ConfigError(
            f"--strength {strength:g}: give a number above 0 and up to 1, where nothing of the "
            "picture is left"
        )
    taken = nearest_point(strength, steps)
    if taken == 0:
        raise ConfigError(
            f"--strength {strength:g} is nearer to none of {steps} steps than to the first, so "
            f"nothing would change; use {1 / steps:g} or more, or a student of more steps"
        )
    return taken


def is_on_a_step(strength: float, steps: int) -> bool:
    """Whether the strength is a time of the N-step grid."""
    return abs(strength * steps - nearest_step(strength, steps)) < _ON_A_STEP * steps


@torch.inference_mode()
def edit(
    opened: BundleSampler,
    pictures: Images,
    wish: Wish,
    *,
    steps: int,
    taken: int,
    first: int = 0,
) -> Images:
    """Redraw pictures from the time `taken / steps` on; the more steps, the less is left of them.

    Args:
        opened: a student, or a teacher.
        pictures: in [-1, 1], one for each that is asked for.
        wish: what they are to become.
        steps: N of the grid.
        taken: steps to take, 1..N. All N start from pure noise, as the network was trained to.
        first: row of the first picture in the seed's stream of noise.

    Raises:
        BundleError: the bundle was not made for this.

    Source: Meng et al. 2021, arXiv:2108.01073 (SDEdit); 2022, arXiv:2210.03142, text-guided
    image-to-image translation.
    """
    if opened.paints_into_pictures:
        raise BundleError("an inpainting network is given a mask; use stepfold inpaint")
    opened.check(steps=steps, w=wish.w)
    opened.check_asked(wish.asked)
    x = latents_of(opened, pictures)
    random = RowRandom((wish.seed,), first, len(x))
    noise = random.normal("z_1", *x.shape[1:]).to(x)
    t = torch.full((len(x),), taken / steps, dtype=torch.float64, device=opened.device)
    z_t = noise if taken == steps else diffuse(x, noise, opened.denoiser.schedule.at(t))
    added = _added(opened, random, steps)
    condition = opened.condition(wish.asked)
    drawn = draw_on(opened, z_t, condition, wish.w, steps=steps, taken=taken, added=added)
    return opened.finished(drawn)


@torch.inference_mode()
def inpaint(
    opened: BundleSampler, pictures: Images, masks: Masks, wish: Wish, *, steps: int
) -> Images:
    """Paint into pictures where the masks are 1; everywhere else they stay as they are.

    Args:
        opened: an inpainting student, or teacher.
        pictures: in [-1, 1], one for each that is asked for.
        masks: 1 where to paint.
        wish: what to paint.
        steps: N of the sampler.

    Raises:
        BundleError: the bundle was not made for this.
        ConfigError: nothing is left of a mask at the size of latents.

    Source: Meng et al. 2022, arXiv:2210.03142, image inpainting.
    """
    if not isinstance(opened.stock, Inpainting):
        raise BundleError(
            "this network is not given a mask; inpainting takes a student of an inpainting "
            "teacher, see captions-inpaint.yaml. stepfold edit redraws the whole picture"
        )
    opened.check(steps=steps, w=wish.w)
    opened.check_asked(wish.asked)
    beside = opened.stock.around(channels_first(pictures), masks)
    if not bool((beside["image"][:, :1] > 0).flatten(1).any(dim=1).all()):
        raise ConfigError("the mask hides nothing at the size of latents; make it larger")
    random = RowRandom((wish.seed,), 0, len(pictures))
    noise = random.normal("z_1", *opened.manifest.latent_shape).to(opened.device)
    added = _added(opened, random, steps)
    condition = {**opened.condition(wish.asked), **beside}
    drawn = draw_on(opened, noise, condition, wish.w, steps=steps, taken=steps, added=added)
    painted = opened.finished(drawn)
    inside: Float32[torch.Tensor, "b h w 1"] = masks.permute(0, 2, 3, 1).float()
    kept: Images = torch.where(
        inside > 0, torch.from_numpy(painted), torch.from_numpy(pictures)
    ).numpy()
    return kept


def latents_of(opened: BundleSampler, pictures: Images) -> Latent:
    """Pictures as the network sees them: pixels, or the means of the autoencoder."""
    pixels = channels_first(pictures).to(opened.device)
    return pixels if opened.stock is None else opened.stock.to_latents(pixels)


def _added(opened: BundleSampler, random: RowRandom, steps: int) -> Noise | None:
    """What is added on the way of a stochastic student, as when it draws from noise."""
    is_stochastic = own_sampler(opened.manifest) == "stochastic"
    return opened.noise_added(random, steps) if is_stochastic else None


def draw_on(
    opened: BundleSampler,
    z_t: Latent,
    condition: Condition,
    w: float,
    *,
    steps: int,
    taken: int,
    added: Noise | None = None,
) -> Latent:
    """From samples at time taken/steps to clean ones, by the last `taken` steps of N.

    Deterministic without `added`, the noise that is added where a next step begins.
    """
    told = torch.full((len(z_t),), w, dtype=torch.float64, device=opened.device)

    return step_by_step(
        z_t,
        opened.denoiser.schedule,
        steps,
        lambda z, level: opened.denoiser(z, level, condition, told),
        remaining=taken,
        noise=added,
    )
