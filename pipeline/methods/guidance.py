"""Stage 1: distil a guided teacher into a w-conditioned student with one evaluation per step."""

from dataclasses import dataclass
from typing import ClassVar

from pipeline.config import (
    UNIFORM,
    GuidanceConfig,
    LossConfig,
    MethodConfig,
    TimeDistribution,
    WDistribution,
)
from pipeline.data.training_data import Batch
from pipeline.diffusion.loss import LossKind, LossWeight
from pipeline.diffusion.schedule import NoiseSchedule
from pipeline.methods.method import (
    NoisedBatch,
    Regression,
    draw_time,
    draw_w,
    noise_batch,
    require_teacher,
    weights_of,
)
from pipeline.models.denoiser import Denoiser
from pipeline.randomness import RowRandom
from pipeline.tensors import Condition, Latent


@dataclass(frozen=True)
class GuidanceDistillation(Regression):
    """Match the guided teacher at any time; the only round in which guidance is applied.

    Source: Meng et al. 2022, arXiv:2210.03142, section 3.1 and Algorithm 1.

    Attributes:
        w: distribution of guidance weights.
        time: distribution of times.
    """

    name: ClassVar[str] = "guidance"

    w: WDistribution
    time: TimeDistribution = UNIFORM

    @classmethod
    def build(
        cls,
        config: MethodConfig,
        loss: LossConfig,
        null: Condition,  # noqa: ARG003
    ) -> "GuidanceDistillation":
        """Build the method of a round."""
        if not isinstance(config, GuidanceConfig):
            raise TypeError(f"expected GuidanceConfig, got {type(config).__name__}")
        return cls(
            loss_weight=LossWeight(loss.weight),
            loss_kind=LossKind(loss.kind),
            w=weights_of(config),
            time=config.time,
        )

    def draw(self, schedule: NoiseSchedule, batch: Batch, random: RowRandom) -> NoisedBatch:
        """Draw noised data at times from the distribution, on the schedule's grid."""
        t = schedule.draw_time(draw_time(self.time, random))
        z_t = noise_batch(batch, schedule.at(t), random)
        return NoisedBatch(z_t=z_t, t=t, w=draw_w(self.w, random), condition=batch.condition)

    def target(self, teacher: Denoiser | None, draws: NoisedBatch) -> Latent:
        """Compute the guided teacher's velocity."""
        teacher = require_teacher(teacher)
        level = teacher.schedule.at(draws.t)
        return teacher.velocity(draws.z_t, level, draws.condition, draws.w)

    @property
    def teacher_calls(self) -> int:
        """One call (two network evaluations under guidance)."""
        return 1
