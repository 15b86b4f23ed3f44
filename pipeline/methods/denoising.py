"""Train a teacher from data, with condition dropout for classifier-free guidance."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from pipeline.config import DenoisingConfig, LossConfig, MethodConfig
from pipeline.data.training_data import Batch
from pipeline.diffusion.loss import LossKind, LossWeight
from pipeline.diffusion.prediction import Prediction, express
from pipeline.diffusion.schedule import NoiseSchedule, diffuse
from pipeline.errors import ConfigError
from pipeline.methods.method import NoisedBatch, Regression, noise_for
from pipeline.models.denoiser import Denoiser
from pipeline.randomness import RowRandom
from pipeline.tensors import Condition, Latent


@dataclass(frozen=True)
class Denoising(Regression):
    """Predict the velocity of noised data; needs no teacher, targets are computed from the data.

    Source: Ho & Salimans 2022, arXiv:2207.12598 (label dropout); Salimans & Ho 2022,
    arXiv:2202.00512, section 4 (the loss in v).

    Attributes:
        null_condition: the null condition (one row) that replaces dropped conditions.
        label_dropout: fraction of samples whose condition is dropped, in [0, 1].
    """

    name: ClassVar[str] = "denoising"

    null_condition: Condition
    label_dropout: float

    @classmethod
    def build(cls, config: MethodConfig, loss: LossConfig, null: Condition) -> "Denoising":
        """Build the method of a round.

        Raises:
            ConfigError: the loss is not squared.
        """
        if not isinstance(config, DenoisingConfig):
            raise TypeError(f"expected DenoisingConfig, got {type(config).__name__}")
        if LossKind(loss.kind) is not LossKind.SQUARED:
            raise ConfigError(
                f"loss.kind: {loss.kind}, but targets of {cls.name} are random: the network has to "
                "learn their mean, which only a squared loss has as its minimum; use squared"
            )
        return cls(
            loss_weight=LossWeight(loss.weight),
            label_dropout=config.label_dropout,
            null_condition=null,
        )

    def draw(self, schedule: NoiseSchedule, batch: Batch, random: RowRandom) -> NoisedBatch:
        """Draw noised data at uniform times with w = 0 and condition dropout."""
        t = schedule.draw_time(random.uniform("time"))
        level = schedule.at(t)
        eps = noise_for(batch, random)
        dropped = random.uniform("label dropout") < self.label_dropout
        condition = dict(batch.condition)
        for key, null in self.null_condition.items():  # other keys (masks) are kept
            value = condition[key]
            mask = dropped.reshape(-1, *[1] * (value.ndim - 1))
            condition[key] = torch.where(mask, null.to(value), value)
        return NoisedBatch(
            z_t=diffuse(batch.x, eps, level),
            t=t,
            w=torch.zeros_like(t),
            condition=condition,
            data_velocity=express(Prediction(x=batch.x, eps=eps), schedule.velocity, level),
        )

    def target(self, teacher: Denoiser | None, draws: NoisedBatch) -> Latent:  # noqa: ARG002 (none needed)
        """Return the velocity of the noised data."""
        if draws.data_velocity is None:
            raise TypeError("data_velocity is missing; create the batch with Denoising.draw()")
        return draws.data_velocity

    @property
    def teacher_calls(self) -> int:
        """Zero: no teacher is used."""
        return 0
