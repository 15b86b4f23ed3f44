"""Train a teacher from data, with conditions dropped so that it can be guided."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from pipeline.data.samples import Batch
from pipeline.diffusion.prediction import Prediction, express
from pipeline.diffusion.schedule import NoiseSchedule, diffuse
from pipeline.methods.method import DistillationMethod, Draws, noise_for
from pipeline.models.denoiser import Denoiser
from pipeline.randomness import RowRandom
from pipeline.tensors import Condition, Latent


@dataclass(frozen=True)
class Denoising(DistillationMethod):
    """Predict the velocity of noised data; no teacher, its targets are the data's own.

    Source: Ho & Salimans 2022, arXiv:2207.12598 (label dropout); Salimans & Ho 2022,
    arXiv:2202.00512, section 4 (the loss in v).

    Attributes:
        null_condition: one sample's null condition, put in place of dropped conditions.
        label_dropout: share of samples whose condition is dropped.
    """

    name: ClassVar[str] = "denoising"
    pregenerable: ClassVar[bool] = False

    null_condition: Condition
    label_dropout: float

    def draw(self, schedule: NoiseSchedule, batch: Batch, random: RowRandom) -> Draws:
        """Noised data at uniform times, unguided, some of it without its condition."""
        t = schedule.draw_time(random.uniform("time"))
        level = schedule.at(t)
        eps = noise_for(batch, random)
        dropped = random.uniform("label dropout") < self.label_dropout
        condition = dict(batch.condition)
        for key, null in self.null_condition.items():  # what it does not name (masks) stays
            value = condition[key]
            mask = dropped.reshape(-1, *[1] * (value.ndim - 1))
            condition[key] = torch.where(mask, null.to(value), value)
        return Draws(
            z_t=diffuse(batch.x, eps, level),
            t=t,
            w=torch.zeros_like(t),
            condition=condition,
            data_velocity=express(Prediction(x=batch.x, eps=eps), schedule.velocity, level),
        )

    def target(self, teacher: Denoiser | None, draws: Draws) -> Latent:  # noqa: ARG002 (none needed)
        """The velocity of the noised data itself."""
        if draws.data_velocity is None:
            raise TypeError("these draws were not made by the denoising method")
        return draws.data_velocity

    @property
    def teacher_calls(self) -> int:
        """None."""
        return 0
