"""What every way to distil has in common: draw, target, loss, each with one job."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool
from torch import Tensor

from pipeline.config import TimeDistribution, WDistribution
from pipeline.data.samples import Batch
from pipeline.diffusion.loss import LossWeight, velocity_loss, weight
from pipeline.diffusion.schedule import NoiseLevel, NoiseSchedule, diffuse, shifted
from pipeline.models.denoiser import Denoiser
from pipeline.randomness import RowRandom
from pipeline.registry import Registry
from pipeline.tensors import Condition, Latent, PerSample

_BELOW_ONE = 1 - 2.0**-53


@dataclass(frozen=True)
class Draws:
    """All that chance decided for a batch: enough to compute target and loss without any more.

    Attributes:
        z_t: noisy samples.
        t: their times, float64 `[b]`.
        w: guidance weights, float64 `[b]`.
        condition: what the student is conditioned on.
        data_velocity: the velocity of the noised sample itself, for methods that learn from data.
        own: rows that are to stand where a sampler comes through, bool `[b]`; their z_t is pure
            noise until `settle` takes them there. None where no row is left to settle.
    """

    z_t: Latent
    t: PerSample
    w: PerSample
    condition: Condition
    data_velocity: Latent | None = None
    own: Bool[Tensor, " b"] | None = None


@dataclass(frozen=True)
class DistillationMethod(ABC):
    """One way to turn a teacher into a student.

    `draw` decides by chance, `settle` puts samples where only a network knows, `target` is what
    the student should say and needs only the teacher (so it can be computed ahead of time), `loss`
    is deterministic.

    Attributes:
        loss_weight: omega(logsnr_t) of the velocity error.
    """

    name: ClassVar[str]
    pregenerable: ClassVar[bool] = True

    loss_weight: LossWeight

    @abstractmethod
    def draw(self, schedule: NoiseSchedule, batch: Batch, random: RowRandom) -> Draws:
        """Decide times, guidance weights and noise for a batch."""

    def settle(
        self,
        teacher: Denoiser | None,  # noqa: ARG002 (these are for those that override it)
        draws: Draws,
        random: RowRandom,  # noqa: ARG002
        student: Denoiser | None = None,  # noqa: ARG002
    ) -> Draws:
        """Draws whose z_t are final.

        Args:
            teacher: the round's.
            draws: what `draw` gave, on the device of the networks.
            random: what they were drawn with.
            student: as it stands when it learns from them; None where targets are made ahead.
        """
        return draws

    @abstractmethod
    def target(self, teacher: Denoiser | None, draws: Draws) -> Latent:
        """The velocity the student should predict at each draw, in float32 at least."""

    @property
    @abstractmethod
    def teacher_calls(self) -> int:
        """Calls of the teacher that one target costs; 0 if it needs no teacher."""

    def loss(self, student: Denoiser, draws: Draws, target: Latent) -> Tensor:
        """The mean weighted squared velocity error of the student, a scalar."""
        level = student.schedule.at(draws.t)
        velocity = student.velocity(draws.z_t, level, draws.condition, draws.w)
        return velocity_loss(velocity, target, weight(self.loss_weight, level)).mean()


METHODS: Registry[DistillationMethod] = Registry("pipeline.methods", DistillationMethod)  # type: ignore[type-abstract]


def draw_w(weights: WDistribution, random: RowRandom) -> PerSample:
    """Guidance weights, float64 `[b]`: one of its values, each as likely.

    On a range they are uniform on [min, max], and exactly min with its own mass.
    """
    unit = random.uniform("w")
    if weights.values:
        values = torch.tensor(weights.values, dtype=torch.float64)
        return values[(unit * len(values)).long()]
    uniform = weights.min + (weights.max - weights.min) * unit
    at_min = random.uniform("w at min") < weights.mass_at_min
    return torch.where(at_min, torch.full_like(uniform, weights.min), uniform)


def draw_time(times: TimeDistribution, random: RowRandom) -> PerSample:
    """Times of training in (0, 1), float64 `[b]`, before a schedule puts them on its own grid."""
    unit = random.uniform("time")
    if times.distribution == "logit_normal":
        unit = torch.sigmoid(times.mean + times.std * torch.special.ndtri(unit))
    # a wide distribution rounds to 1 in its tail, which is no time before the end
    return shifted(unit, times.shift).clamp(max=_BELOW_ONE)


def noise_for(batch: Batch, random: RowRandom) -> Latent:
    """The batch's eps ~ N(0, I), float32."""
    return random.normal("noise", *batch.x.shape[1:]).to(batch.x.device)


def noised(batch: Batch, level: NoiseLevel, random: RowRandom) -> Latent:
    """The batch at a noise level; at t = 1 pure noise, as sampling starts.

    Schedules that do not end in pure noise would leak data into z_1 otherwise.
    """
    eps = noise_for(batch, random)
    z_t = diffuse(batch.x, eps, level)
    at_end = (level.t == 1).to(z_t.device).reshape(-1, *[1] * (z_t.ndim - 1))
    return torch.where(at_end, eps.to(z_t.dtype), z_t)


def required(teacher: Denoiser | None) -> Denoiser:
    """The teacher of a method that cannot do without one."""
    if teacher is None:
        raise TypeError("this method computes its targets from a teacher, and was given none")
    return teacher
