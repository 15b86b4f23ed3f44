"""Stage 2: a student that makes in one step the jump its teacher makes in two (or four, ...)."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from pipeline.config import GuidanceWeights
from pipeline.data.batch import Batch
from pipeline.diffusion.grid import Grid, steps_folded
from pipeline.diffusion.schedule import NoiseLevel, NoiseSchedule
from pipeline.diffusion.solver import fold
from pipeline.methods.method import DistillationMethod, Draws, draw_w, noised, required
from pipeline.models.denoiser import Denoiser
from pipeline.randomness import RowRandom
from pipeline.tensors import Latent, PerSample


@dataclass(frozen=True)
class ProgressiveDistillation(DistillationMethod):
    """Match the folded velocity of the teacher's steps on the student's own grid.

    Source: Meng et al. 2022, arXiv:2210.03142, section 3.2 and Algorithm 2; Salimans & Ho 2022,
    arXiv:2202.00512, Algorithm 2.

    Attributes:
        w: the law guidance weights are drawn from, passed on to the teacher.
        grid: where the student is asked and how far each of its steps goes.
        teacher_grid: the steps of the teacher, which are followed from there.
    """

    name: ClassVar[str] = "progressive"

    w: GuidanceWeights
    grid: Grid
    teacher_grid: Grid

    def draw(self, schedule: NoiseSchedule, batch: Batch, random: RowRandom) -> Draws:
        """Noised data at the points of the student's grid, each as likely."""
        steps = self.grid.steps
        t = (random.integers("grid point", steps).double() + self.grid.starts[0]) / steps
        z_t = noised(batch, schedule.at(t), random)
        return Draws(z_t=z_t, t=t, w=draw_w(self.w, random), condition=batch.condition)

    def target(self, teacher: Denoiser | None, draws: Draws) -> Latent:
        """The velocity that lands in one step where the teacher's DDIM steps land."""
        asked = required(teacher)
        return fold(
            draws.z_t,
            self._levels(asked.schedule, draws.t),
            lambda z, level: asked.velocity(z, level, draws.condition, draws.w),
            asked.schedule.velocity,
        )

    @property
    def teacher_calls(self) -> int:
        """One call for each of the teacher's steps."""
        return max(steps_folded(self.grid, self.teacher_grid))

    def _levels(self, schedule: NoiseSchedule, t: PerSample) -> list[NoiseLevel]:
        """Where the teacher's steps begin and end, of each row."""
        factor = self.teacher_grid.steps // self.grid.steps
        point = torch.round(t * self.grid.steps)
        start = point * factor
        end = (point + self.grid.stride).clamp(0, self.grid.steps) * factor
        nearer = torch.maximum if self.teacher_grid.stride < 0 else torch.minimum
        points = [
            nearer(start + done * self.teacher_grid.stride, end)
            for done in range(self.teacher_calls + 1)
        ]
        return [schedule.at(each / self.teacher_grid.steps) for each in points]
