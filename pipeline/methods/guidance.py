"""Stage 1: a student that answers for a guided teacher, at every w, in one evaluation."""

from dataclasses import dataclass
from typing import ClassVar

from pipeline.config import UNIFORM, TimeDistribution, WDistribution
from pipeline.data.samples import Batch
from pipeline.diffusion.schedule import NoiseSchedule
from pipeline.methods.method import DistillationMethod, Draws, draw_time, draw_w, noised, required
from pipeline.models.denoiser import Denoiser
from pipeline.randomness import RowRandom
from pipeline.tensors import Latent


@dataclass(frozen=True)
class GuidanceDistillation(DistillationMethod):
    """Match the guided teacher at any time: the only place in a chain where guidance is applied.

    Source: Meng et al. 2022, arXiv:2210.03142, section 3.1 and Algorithm 1.

    Attributes:
        w: the law guidance weights are drawn from.
        time: the law of the times.
    """

    name: ClassVar[str] = "guidance"

    w: WDistribution
    time: TimeDistribution = UNIFORM

    def draw(self, schedule: NoiseSchedule, batch: Batch, random: RowRandom) -> Draws:
        """Noised data at times of the law, on the grid of the schedule."""
        t = schedule.draw_time(draw_time(self.time, random))
        z_t = noised(batch, schedule.at(t), random)
        return Draws(z_t=z_t, t=t, w=draw_w(self.w, random), condition=batch.condition)

    def target(self, teacher: Denoiser | None, draws: Draws) -> Latent:
        """The guided teacher's velocity."""
        teacher = required(teacher)
        level = teacher.schedule.at(draws.t)
        return teacher.velocity(draws.z_t, level, draws.condition, draws.w)

    @property
    def teacher_calls(self) -> int:
        """One call (two network evaluations under guidance)."""
        return 1
