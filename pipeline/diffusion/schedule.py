"""Noise schedules: how much signal and noise z_t = alpha_t x + sigma_t eps holds at time t.

Convention: t in [0, 1], t = 0 is data, t = 1 is noise. Levels are float64 whatever the networks
run in, because steps are differences of nearby levels.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.diffusion.prediction import PredictionType
from pipeline.tensors import Latent, PerSample, per_sample


@dataclass(frozen=True)
class NoiseLevel:
    """Where on the path each sample of a batch stands; passed instead of a bare t.

    Attributes:
        t: time in [0, 1], float64 `[b]`.
        alpha: signal coefficient alpha_t, float64 `[b]`.
        sigma: noise coefficient sigma_t, float64 `[b]`.
    """

    t: PerSample
    alpha: PerSample
    sigma: PerSample

    @property
    def logsnr(self) -> PerSample:
        """log(alpha^2 / sigma^2); infinite at the ends of a path that reaches them."""
        return 2 * (self.alpha.log() - self.sigma.log())


def diffuse(x: Latent, eps: Latent, level: NoiseLevel) -> Latent:
    """The noised sample z_t = alpha_t x + sigma_t eps."""
    return per_sample(level.alpha, x) * x + per_sample(level.sigma, eps) * eps


def shifted(t: PerSample, shift: float) -> PerSample:
    """Times moved towards noise: t_m = a t_n / (1 + (a - 1) t_n), which adds log a to logit(t).

    Source: Esser et al. 2024, arXiv:2403.03206, eq. 23.
    """
    return shift * t / (1 + (shift - 1) * t)


class NoiseSchedule(ABC):
    """A Gaussian path from data (t = 0) to noise (t = 1).

    Attributes:
        num_train_timesteps: T of the network's time input, `timestep = t T - 1`.
        velocity: the prediction type that is the path's velocity: v on a variance-preserving
            path, u = eps - x on a straight one. Targets are stored and losses scored in it.
    """

    name: str
    velocity: PredictionType

    def __init__(self, num_train_timesteps: int) -> None:
        self.num_train_timesteps = num_train_timesteps

    @abstractmethod
    def at(self, t: PerSample) -> NoiseLevel:
        """The level at times `t`, exact at t = 0 (alpha = 1, sigma = 0)."""

    def draw_time(self, uniform: PerSample) -> PerSample:
        """Times of training, uniform over i/T with i = 1..T, from uniform numbers in (0, 1).

        On this grid the network only ever sees the integer timesteps a stock scheduler gives it.
        """
        return ((uniform * self.num_train_timesteps).floor() + 1) / self.num_train_timesteps

    def timestep(self, level: NoiseLevel) -> Tensor:
        """The number a diffusers network is given for its time, `[b]` float32."""
        return (level.t * self.num_train_timesteps - 1).float()

    def grid(self, num_steps: int) -> Tensor:
        """Times 1, 1 - 1/N, ..., 0 of an N-step sampler, float64 `[N + 1]`, each exactly i/N."""
        return torch.arange(num_steps, -1, -1, dtype=torch.float64) / num_steps


class CosineSchedule(NoiseSchedule):
    """alpha = cos(pi t / 2), sigma = sin(pi t / 2), unclipped: pure noise at t = 1.

    Source: Salimans & Ho 2022, arXiv:2202.00512, section 2 (after Nichol & Dhariwal 2021).
    """

    name = "cosine"
    velocity = PredictionType.V

    def at(self, t: PerSample) -> NoiseLevel:
        """The level at times `t`; alpha(1) is exactly 0, which cos(pi/2) in float64 is not."""
        t = t.double()
        angle = t * (torch.pi / 2)
        alpha = torch.where(t == 1, torch.zeros_like(t), angle.cos())
        return NoiseLevel(t=t, alpha=alpha, sigma=angle.sin())


class DiscreteSchedule(NoiseSchedule):
    """The schedule of an existing variance-preserving teacher, given by its `alphas_cumprod`.

    Entry `index` of the table is time t = (index + 1) / T; t = 0 is clean data. It is defined at
    these times only, so that a time between two of them is the nearer one: what a stock scheduler
    does with `timestep_spacing="trailing"` when N does not divide T.
    """

    name = "discrete"
    velocity = PredictionType.V

    def __init__(self, alphas_cumprod: Tensor) -> None:
        super().__init__(len(alphas_cumprod))
        self._table = torch.cat([torch.ones(1, dtype=torch.float64), alphas_cumprod.double().cpu()])

    @classmethod
    def scaled_linear(
        cls, num_train_timesteps: int, beta_start: float = 0.00085, beta_end: float = 0.012
    ) -> "DiscreteSchedule":
        """The schedule of Stable Diffusion 1.x and 2.x: betas linear in their square root."""
        ends = (beta_start**0.5, beta_end**0.5)
        betas = torch.linspace(*ends, num_train_timesteps, dtype=torch.float64) ** 2
        return cls((1 - betas).cumprod(0))

    @classmethod
    def linear(
        cls, num_train_timesteps: int, beta_start: float = 0.0001, beta_end: float = 0.02
    ) -> "DiscreteSchedule":
        """The schedule of DiT and of DDPM itself: betas linear in time.

        Source: Ho et al. 2020, arXiv:2006.11239, section 4.
        """
        betas = torch.linspace(beta_start, beta_end, num_train_timesteps, dtype=torch.float64)
        return cls((1 - betas).cumprod(0))

    def at(self, t: PerSample) -> NoiseLevel:
        """The level at the entries nearest to times `t` (half way, at the even one).

        Raises:
            ValueError: a time lies outside [0, 1].
        """
        index = (t.double() * self.num_train_timesteps).round()
        if bool(((index < 0) | (index > self.num_train_timesteps)).any()):
            raise ValueError("a time lies outside [0, 1]")
        alpha_squared = self._table.to(t.device)[index.long()]
        return NoiseLevel(
            t=index / self.num_train_timesteps,
            alpha=alpha_squared.sqrt(),
            sigma=(1 - alpha_squared).sqrt(),
        )


class RectifiedFlow(NoiseSchedule):
    """The straight path alpha = 1 - sigma of flow matching (SD3, Flux, SiT).

    sigma = s t / (1 + (s - 1) t) with the shift s, so that equal steps of t are the shifted steps
    that large images want; s = 1 is sigma = t.

    Source: Liu et al. 2022, arXiv:2209.03003; Lipman et al. 2022, arXiv:2210.02747; for the shift
    Esser et al. 2024, arXiv:2403.03206, eq. 23.
    """

    name = "rectified_flow"
    velocity = PredictionType.FLOW

    def __init__(self, num_train_timesteps: int, shift: float = 1.0) -> None:
        super().__init__(num_train_timesteps)
        self.shift = shift

    def at(self, t: PerSample) -> NoiseLevel:
        """The level at times `t`."""
        t = t.double()
        sigma = shifted(t, self.shift)
        return NoiseLevel(t=t, alpha=1 - sigma, sigma=sigma)

    def timestep(self, level: NoiseLevel) -> Tensor:
        """Flow-matching networks of diffusers are given sigma T itself."""
        return (level.sigma * self.num_train_timesteps).float()
