"""A method that minimises the absolute error to the guided teacher, computed online."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from pipeline.config import LossConfig, MethodConfig, WDistribution
from pipeline.data.training_data import Batch
from pipeline.diffusion.schedule import NoiseSchedule
from pipeline.methods.method import (
    DistillationMethod,
    Networks,
    NoisedBatch,
    StepOutput,
    draw_w,
    noise_batch,
)
from pipeline.randomness import RowRandom
from pipeline.tensors import Condition, Latent


class TeacherL1Config(MethodConfig):
    """Settings of the method."""

    name: ClassVar[str] = "teacher_l1"
    pregenerable: ClassVar[bool] = False

    w: WDistribution | None = WDistribution()
    """Distribution of the guidance weight."""

    power: float = 1.0
    """Power of the absolute error."""


@dataclass(frozen=True)
class TeacherL1(DistillationMethod):
    """Match the guided teacher's velocity in the absolute error."""

    name: ClassVar[str] = "teacher_l1"

    w: WDistribution
    power: float

    @classmethod
    def build(cls, config: MethodConfig, loss: LossConfig, null: Condition) -> "TeacherL1":
        """Build the method of a round."""
        if not isinstance(config, TeacherL1Config) or config.w is None:
            raise TypeError(f"expected TeacherL1Config with w, got {config}")
        return cls(w=config.w, power=config.power)

    def draw(self, schedule: NoiseSchedule, batch: Batch, random: RowRandom) -> NoisedBatch:
        """Draw noised data at uniform times."""
        t = schedule.draw_time(random.uniform("time"))
        z_t = noise_batch(batch, schedule.at(t), random)
        return NoisedBatch(z_t=z_t, t=t, w=draw_w(self.w, random), condition=batch.condition)

    def step(self, networks: Networks, draws: NoisedBatch, target: Latent | None) -> StepOutput:
        """Compute the error to the teacher, which is evaluated here."""
        if networks.student is None or networks.teacher is None:
            raise TypeError("student and teacher are needed in training")
        level = networks.student.schedule.at(draws.t)
        with torch.no_grad():
            wanted = networks.teacher.velocity(draws.z_t, level, draws.condition, draws.w)
        found = networks.student.velocity(draws.z_t, level, draws.condition, draws.w)
        error = (found - wanted).abs()
        return StepOutput((error**self.power).mean(), {"largest_error": error.detach().max()})
