"""DDIM steps, and folding several of them into the one velocity that makes the same jump.

Written in velocity, a DDIM step from level t to level s is z_s = a z_t - b velocity, where the two
coefficients depend on the levels only. Two such steps compose to a third, which is all that
progressive distillation needs; nothing is inverted and no small difference is taken.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from pipeline.diffusion.grid import Grid
from pipeline.diffusion.prediction import Prediction, PredictionType
from pipeline.diffusion.schedule import NoiseLevel, NoiseSchedule, diffuse
from pipeline.tensors import Latent, PerSample, per_sample

Velocity = Callable[[Latent, NoiseLevel], Latent]
"""The velocity of a denoiser at (z_t, level), its condition and w already given."""

Denoise = Callable[[Latent, NoiseLevel], Prediction]
"""A denoiser with its condition and w already given."""


Noise = Callable[[int], Latent]
"""Standard normal noise for a point of the grid."""


def ddim_step(prediction: Prediction, end: NoiseLevel) -> Latent:
    """One DDIM step to level `end`: the same noise, less of it. On a straight path it is Euler's.

    Source: Song et al. 2020, arXiv:2010.02502, eq. 12 with sigma = 0.
    """
    return diffuse(prediction.x, prediction.eps, end)


@dataclass(frozen=True)
class Jump:
    """The coefficients of z_s = a z_t - b velocity, float64 `[b]` each.

    On a variance-preserving path a = cos(d), b = sin(d) with d the angle between the levels; on a
    straight path a = 1, b = t - s.
    """

    a: PerSample
    b: PerSample

    def __call__(self, z_t: Latent, velocity: Latent) -> Latent:
        """Take the step."""
        return per_sample(self.a, z_t) * z_t - per_sample(self.b, velocity) * velocity


def jump(start: NoiseLevel, end: NoiseLevel, velocity: PredictionType) -> Jump:
    """The step from `start` to `end` for a path whose velocity is of the given type.

    Raises:
        ValueError: the type is not a velocity.
    """
    b = start.sigma * end.alpha - start.alpha * end.sigma
    match velocity:
        case PredictionType.V:
            return Jump(a=start.alpha * end.alpha + start.sigma * end.sigma, b=b)
        case PredictionType.FLOW:
            return Jump(a=(end.alpha + end.sigma) / (start.alpha + start.sigma), b=b)
        case _:
            raise ValueError(f"{velocity} is not a velocity; a path's is v or flow")


def fold(
    z_t: Latent, levels: Sequence[NoiseLevel], velocity: Velocity, kind: PredictionType
) -> Latent:
    """The velocity that carries z_t from the first to the last level in one step.

    Walks the teacher's steps and folds as it goes: if one jump (a1, b1) with velocity v1 is
    followed by (a2, b2) with v2, the whole is

        v = (a2 b1 v1 + b2 v2 - c z_t) / b12,   c = b1 b2 on a circle, 0 on a straight path,

    which is the prediction x~ of progressive distillation written without its division by
    alpha_s - (sigma_s / sigma_t) alpha_t: that form loses all digits of bfloat16 at 64 steps.

    Args:
        z_t: samples at the first level.
        levels: two or more levels, each less noisy than the one before (or each noisier).
        velocity: the teacher's velocity.
        kind: what that velocity is, the schedule's `velocity`.

    Source: Salimans & Ho 2022, arXiv:2202.00512, Algorithm 2 (x~), solved for the velocity.
    """
    start = levels[0]
    folded = velocity(z_t, start)
    for middle, end in pairwise(levels[1:]):
        first, second = jump(start, middle, kind), jump(middle, end, kind)
        whole = jump(start, end, kind)
        following = velocity(first(z_t, folded), middle)
        curvature = first.b * second.b if kind is PredictionType.V else first.b * 0
        folded = (
            per_sample(second.a * first.b / whole.b, z_t) * folded
            + per_sample(second.b / whole.b, z_t) * following
            - per_sample(curvature / whole.b, z_t) * z_t
        )
    return folded


def renoise(z_k: Latent, start: NoiseLevel, end: NoiseLevel, eps: Latent) -> Latent:
    """A sample at level `start` made as noisy as level `end` is, which must be the noisier.

    z_s = (alpha_s / alpha_k) z_k + sigma_{s|k} eps with
    sigma_{s|k}^2 = (1 - exp(logsnr_s - logsnr_k)) sigma_s^2, on any Gaussian path: the noise that
    z_k has, scaled, and the new noise add up to sigma_s^2. Needs alpha_k > 0; at the data itself,
    where logsnr_k is infinite, it is the noising of x.

    Source: Meng et al. 2022, arXiv:2210.03142, section 3.3.
    """
    added = end.sigma * (-torch.expm1(end.logsnr - start.logsnr)).sqrt()
    return per_sample(end.alpha / start.alpha, z_k) * z_k + per_sample(added, eps) * eps


def levels_at(schedule: NoiseSchedule, num_steps: int, like: Latent) -> Callable[[int], NoiseLevel]:
    """The level of every sample of a batch at point i of a grid: time i/N, exactly."""

    def level(point: int) -> NoiseLevel:
        time = torch.tensor(point / num_steps, dtype=torch.float64, device=like.device)
        return schedule.at(time.expand(len(like)))

    return level


def sample(
    z_1: Latent,
    schedule: NoiseSchedule,
    num_steps: int,
    denoise: Denoise,
    *,
    remaining: int | None = None,
    noise: Noise | None = None,
) -> Latent:
    """The N-step sampler: t = 1, 1 - 1/N, ..., 1/N -> 0, returning the last x.

    Deterministic it is DDIM. With noise it is the stochastic sampler of the paper: a step twice as
    far, t -> t - 2/N, then noised back to t - 1/N; the last step goes from 1/N to 0 and stays.

    Args:
        z_1: pure noise; or with `remaining` samples at t = remaining / N.
        schedule: the path.
        num_steps: N, at least 1.
        denoise: (z_t, level) -> Prediction, its condition and w already given.
        remaining: how many of the N steps, the last ones, are taken; all of them without it.
        noise: (point) -> eps ~ N(0, I) that is added where the next step begins, at point / N; None
            for the deterministic sampler.

    Source: Meng et al. 2022, arXiv:2210.03142, sections 3.2 and 3.3.
    """
    grid = Grid(num_steps, sampling="deterministic" if noise is None else "stochastic")
    level = levels_at(schedule, num_steps, z_1)
    z_t = z_1
    for start in reversed(grid.starts[:remaining]):
        end, following = grid.end(start), start - 1
        z_t = ddim_step(denoise(z_t, level(start)), level(end))
        if noise is not None and end != following:
            z_t = renoise(z_t, level(end), level(following), noise(following))
    return z_t
