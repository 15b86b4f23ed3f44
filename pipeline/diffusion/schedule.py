"""Noise schedules: the coefficients of z_t = alpha_t x + sigma_t eps at time t.

Convention: t in [0, 1], t = 0 is data, t = 1 is noise. Levels are float64 regardless of the
network's precision, because steps are differences of nearby levels.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.diffusion.prediction import PredictionType
from pipeline.tensors import Latent, PerSample, per_sample


@dataclass(frozen=True)
class NoiseLevel:
    """The noise level of each sample of a batch; passed instead of a bare t.

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
        """log(alpha^2 / sigma^2) `[b]`; infinite where alpha or sigma is 0."""
        return 2 * (self.alpha.log() - self.sigma.log())


def diffuse(x: Latent, eps: Latent, level: NoiseLevel) -> Latent:
    """Compute the noised sample z_t = alpha_t x + sigma_t eps."""
    return per_sample(level.alpha, x) * x + per_sample(level.sigma, eps) * eps


def shifted(t: PerSample, shift: float) -> PerSample:
    """Shift times towards noise: t_m = a t_n / (1 + (a - 1) t_n), which adds log a to logit(t).

    Source: Esser et al. 2024, arXiv:2403.03206, eq. 23.
    """
    return shift * t / (1 + (shift - 1) * t)


class NoiseSchedule(ABC):
    """A Gaussian path from data (t = 0) to noise (t = 1).

    Attributes:
        num_train_timesteps: T of the network's time input, `timestep = t T - 1`.
        velocity: the prediction type of the path's velocity: v on a variance-preserving path,
            u = eps - x on a straight one. Targets and losses use it.
    """

    name: str
    velocity: PredictionType

    def __init__(self, num_train_timesteps: int) -> None:
        self.num_train_timesteps = num_train_timesteps

    @abstractmethod
    def at(self, t: PerSample) -> NoiseLevel:
        """Compute the level at times `t`, exact at t = 0 (alpha = 1, sigma = 0)."""

    def draw_time(self, uniform: PerSample) -> PerSample:
        """Map uniform numbers in (0, 1) to training times i/T with i = 1..T.

        On this grid the network sees only the integer timesteps that a stock scheduler uses.
        """
        return ((uniform * self.num_train_timesteps).floor() + 1) / self.num_train_timesteps

    def nearest_time(self, t: PerSample) -> PerSample:
        """Round times to the nearest training times i/T."""
        return (t * self.num_train_timesteps).round() / self.num_train_timesteps

    def timestep(self, level: NoiseLevel) -> Tensor:
        """Compute the time input of a diffusers network, float32 `[b]`."""
        return (level.t * self.num_train_timesteps - 1).float()

    def grid(self, num_steps: int) -> Tensor:
        """Compute the times 1, 1 - 1/N, ..., 0 of an N-step sampler, float64 `[N + 1]`."""
        return torch.arange(num_steps, -1, -1, dtype=torch.float64) / num_steps


class CosineSchedule(NoiseSchedule):
    """alpha = cos(pi t / 2), sigma = sin(pi t / 2), unclipped: pure noise at t = 1.

    Source: Salimans & Ho 2022, arXiv:2202.00512, section 2 (after Nichol & Dhariwal 2021).
    """

    name = "cosine"
    velocity = PredictionType.V

    def at(self, t: PerSample) -> NoiseLevel:
        """Compute the level at times `t`; alpha(1) is exactly 0, unlike float64 cos(pi/2)."""
        t = t.double()
        angle = t * (torch.pi / 2)
        alpha = torch.where(t == 1, torch.zeros_like(t), angle.cos())
        return NoiseLevel(t=t, alpha=alpha, sigma=angle.sin())


class DiscreteSchedule(NoiseSchedule):
    """The schedule of an existing variance-preserving teacher, given by its `alphas_cumprod`.

    Entry `index` of the table is time t = (index + 1) / T; t = 0 is clean data. Other times are
    rounded to the nearest entry, as a stock scheduler with `timestep_spacing="trailing"` does when
    N does not divide T.
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
        """Build the schedule of Stable Diffusion 1.x and 2.x: betas linear in their square root."""
        ends = (beta_start**0.5, beta_end**0.5)
        betas = torch.linspace(*ends, num_train_timesteps, dtype=torch.float64) ** 2
        return cls((1 - betas).cumprod(0))

    @classmethod
    def linear(
        cls, num_train_timesteps: int, beta_start: float = 0.0001, beta_end: float = 0.02
    ) -> "DiscreteSchedule":
        """Build the schedule of DiT and DDPM: betas linear in time.

        Source: Ho et al. 2020, arXiv:2006.11239, section 4.
        """
        betas = torch.linspace(beta_start, beta_end, num_train_timesteps, dtype=torch.float64)
        return cls((1 - betas).cumprod(0))

    def at(self, t: PerSample) -> NoiseLevel:
        """Compute the level at the table entries nearest to times `t` (ties to the even entry).

        Raises:
            ValueError: a time is outside [0, 1].
        """
        index = (t.double() * self.num_train_timesteps).round()
        if bool(((index < 0) | (index > self.num_train_timesteps)).any()):
            low, high = float(t.min()), float(t.max())
            raise ValueError(f"times must lie in [0, 1], got values in [{low:g}, {high:g}]")
        alpha_squared = self._table.to(t.device)[index.long()]
        return NoiseLevel(
            t=index / self.num_train_timesteps,
            alpha=alpha_squared.sqrt(),
            sigma=(1 - alpha_squared).sqrt(),
        )


class RectifiedFlow(NoiseSchedule):
    """The straight path alpha = 1 - sigma of flow matching (SD3, Flux, SiT).

    sigma = s t / (1 + (s - 1) t) with the shift s, so that equal steps in t become the shifted
    steps used for large images; s = 1 gives sigma = t.

    Source: Liu et al. 2022, arXiv:2209.03003; Lipman et al. 2022, arXiv:2210.02747; for the shift
    Esser et al. 2024, arXiv:2403.03206, eq. 23.
    """

    name = "rectified_flow"
    velocity = PredictionType.FLOW

    def __init__(self, num_train_timesteps: int, shift: float = 1.0) -> None:
        super().__init__(num_train_timesteps)
        self.shift = shift

    def at(self, t: PerSample) -> NoiseLevel:
        """Compute the level at times `t`."""
        t = t.double()
        sigma = shifted(t, self.shift)
        return NoiseLevel(t=t, alpha=1 - sigma, sigma=sigma)

    def timestep(self, level: NoiseLevel) -> Tensor:
        """Compute sigma T, the time input of diffusers' flow-matching networks, float32 `[b]`."""
        return (level.sigma * self.num_train_timesteps).float()
