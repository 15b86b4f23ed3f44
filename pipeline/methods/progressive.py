"""Stage 2: a student that makes in one step the jump its teacher makes in two (or four, ...)."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from pipeline.config import GuidanceWeights
from pipeline.data.batch import Batch
from pipeline.diffusion.schedule import NoiseSchedule
from pipeline.diffusion.solver import fold
from pipeline.methods.method import DistillationMethod, Draws, draw_w, noised, required
from pipeline.models.denoiser import Denoiser
from pipeline.randomness import RowRandom
from pipeline.tensors import Latent


@dataclass(frozen=True)
class ProgressiveDistillation(DistillationMethod):
    """Match the folded velocity of `jump` teacher steps on the student's own grid.

    Source: Meng et al. 2022, arXiv:2210.03142, section 3.2 and Algorithm 2; Salimans & Ho 2022,
    arXiv:2202.00512, Algorithm 2.

    Attributes:
        w: the law guidance weights are drawn from, passed on to the teacher.
        student_steps: N of the student.
        jump: teacher steps folded into one, 2 for halving.
    """

    name: ClassVar[str] = "progressive"

    w: GuidanceWeights
    student_steps: int
    jump: int = 2

    def draw(self, schedule: NoiseSchedule, batch: Batch, random: RowRandom) -> Draws:
        """Noised data at times i/N, i uniform in 1..N."""
        t = (random.integers("grid point", self.student_steps).double() + 1) / self.student_steps
        z_t = noised(batch, schedule.at(t), random)
        return Draws(z_t=z_t, t=t, w=draw_w(self.w, random), condition=batch.condition)

    def target(self, teacher: Denoiser | None, draws: Draws) -> Latent:
        """The velocity that lands in one step where `jump` DDIM steps of the teacher land."""
        asked = required(teacher)
        grid = torch.round(draws.t * self.student_steps) * self.jump
        total = self.student_steps * self.jump
        levels = [asked.schedule.at((grid - done) / total) for done in range(self.jump + 1)]
        return fold(
            draws.z_t,
            levels,
            lambda z, level: asked.velocity(z, level, draws.condition, draws.w),
            asked.schedule.velocity,
        )

    @property
    def teacher_calls(self) -> int:
        """One call a step."""
        return self.jump
