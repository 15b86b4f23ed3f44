"""DDIM steps, and folding of several steps into the one velocity that makes the same jump.

In terms of the velocity, a DDIM step from level t to level s is z_s = a z_t - b velocity, and both
coefficients depend only on the levels. Two such steps compose to a third, which is all that
progressive distillation needs; no inverse and no small difference is computed.
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
"""The velocity of a denoiser at (z_t, level), with condition and w bound."""

Denoise = Callable[[Latent, NoiseLevel], Prediction]
"""A denoiser with condition and w bound."""


Noise = Callable[[int], Latent]
"""Standard normal noise for a grid point."""


def ddim_step(prediction: Prediction, end: NoiseLevel) -> Latent:
    """Take one DDIM step to level `end` with the predicted noise; an Euler step on straight paths.

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
        """Compute z_s from z_t and the velocity."""
        return per_sample(self.a, z_t) * z_t - per_sample(self.b, velocity) * velocity


def jump(start: NoiseLevel, end: NoiseLevel, velocity: PredictionType) -> Jump:
    """Compute the step from `start` to `end` for a path whose velocity is of the given type.

    Raises:
        ValueError: the prediction type is not a velocity.
    """
    b = start.sigma * end.alpha - start.alpha * end.sigma
    match velocity:
        case PredictionType.V:
            return Jump(a=start.alpha * end.alpha + start.sigma * end.sigma, b=b)
        case PredictionType.FLOW:
            return Jump(a=(end.alpha + end.sigma) / (start.alpha + start.sigma), b=b)
        case _:
            raise ValueError(
                f"velocity type {str(velocity)!r} is not supported; use {PredictionType.V} or "
                f"{PredictionType.FLOW}"
            )


def fold(
    z_t: Latent, levels: Sequence[NoiseLevel], velocity: Velocity, kind: PredictionType
) -> Latent:
    """Compute the velocity that moves z_t from the first to the last level in one step.

    Takes the teacher's steps and folds them one by one: if a jump (a1, b1) with velocity v1 is
    followed by (a2, b2) with v2, the folded velocity is

        v = (a2 b1 v1 + b2 v2 - c z_t) / b12,   c = b1 b2 on a circle, 0 on a straight path,

    which is the prediction x~ of progressive distillation without its division by
    alpha_s - (sigma_s / sigma_t) alpha_t. That division loses all bfloat16 digits at 64 steps.

    Args:
        z_t: samples at the first level.
        levels: two or more levels, monotonically less noisy (or monotonically noisier).
        velocity: the teacher's velocity.
        kind: the type of that velocity, the schedule's `velocity`.

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
    """Add noise to a sample at level `start` to reach the noisier level `end`.

    z_s = (alpha_s / alpha_k) z_k + sigma_{s|k} eps with
    sigma_{s|k}^2 = (1 - exp(logsnr_s - logsnr_k)) sigma_s^2, on any Gaussian path: the scaled
    noise of z_k and the new noise add up to variance sigma_s^2. Requires alpha_k > 0. At clean
    data, where logsnr_k is infinite, it is ordinary noising of x.

    Source: Meng et al. 2022, arXiv:2210.03142, section 3.3.
    """
    added = end.sigma * (-torch.expm1(end.logsnr - start.logsnr)).sqrt()
    return per_sample(end.alpha / start.alpha, z_k) * z_k + per_sample(added, eps) * eps


def levels_at(schedule: NoiseSchedule, num_steps: int, like: Latent) -> Callable[[int], NoiseLevel]:
    """Return a function from grid point i to the batch's level at time i/N."""

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
    """Sample by N steps: t = 1, 1 - 1/N, ..., 1/N -> 0, returning the last x.

    Without `noise` this is DDIM. With `noise` it is the paper's stochastic sampler: each step is
    twice as long, t -> t - 2/N, followed by renoising to t - 1/N. The last step goes from 1/N to 0
    without renoising.

    Args:
        z_1: pure noise; with `remaining`, samples at t = remaining / N.
        schedule: the noise path.
        num_steps: N, at least 1.
        denoise: (z_t, level) -> Prediction, with condition and w bound.
        remaining: take only this many of the N steps, the last ones; None takes all.
        noise: (point) -> eps ~ N(0, I) added where the next step begins, at point / N; None for the
            deterministic sampler.

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
