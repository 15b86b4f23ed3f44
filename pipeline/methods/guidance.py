"""Stage 1: distil a guided teacher into a w-conditioned student with one evaluation per step."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from pipeline.config import (
    ON_POLICY_STEPS,
    UNIFORM,
    GuidanceConfig,
    LossConfig,
    MethodConfig,
    OnPolicySource,
    TimeDistribution,
    WDistribution,
)
from pipeline.data.training_data import Batch
from pipeline.diffusion.ddim import jump
from pipeline.diffusion.loss import LossKind, LossWeight
from pipeline.diffusion.schedule import NoiseSchedule
from pipeline.methods.method import (
    NoisedBatch,
    Regression,
    draw_on_policy,
    draw_time,
    draw_w,
    noise_batch,
    on_policy_network,
    require_teacher,
    row_mask,
    rows_to_evaluate,
    select_rows,
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
        on_policy_fraction: fraction of samples, in [0, 1], that are on-policy states: states of a
            trajectory from noise at the sample's own w, condition and time, instead of noised data.
        on_policy_source: the network that samples them: the guided `teacher`, or the current
            `student`.
        on_policy_steps: DDIM steps of a trajectory from noise to data. One that ends at time t
            takes the nearest whole number to (1 - t) times as many, of equal length.
    """

    name: ClassVar[str] = "guidance"

    w: WDistribution
    time: TimeDistribution = UNIFORM
    on_policy_fraction: float = 0.0
    on_policy_source: OnPolicySource = "teacher"
    on_policy_steps: int = ON_POLICY_STEPS

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
            on_policy_fraction=config.on_policy_fraction,
            on_policy_source=config.on_policy_source or "teacher",
        )

    def draw(self, schedule: NoiseSchedule, batch: Batch, random: RowRandom) -> NoisedBatch:
        """Draw noised data at times from the distribution, on the schedule's grid."""
        t = schedule.draw_time(draw_time(self.time, random))
        z_t = noise_batch(batch, schedule.at(t), random)
        z_t, own = draw_on_policy(z_t, self.on_policy_fraction, batch, random)
        w = draw_w(self.w, random)
        return NoisedBatch(z_t=z_t, t=t, w=w, condition=batch.condition, own=own)

    def rollout(
        self,
        teacher: Denoiser | None,
        draws: NoisedBatch,
        random: RowRandom,  # noqa: ARG002 (DDIM adds no noise)
        student: Denoiser | None = None,
    ) -> NoisedBatch:
        """Replace pure noise in on-policy rows by states sampled from it, without gradient.

        The network is evaluated `on_policy_steps` times, each time on the rows that have not
        arrived, or on one row if all have: workers that share a partitioned teacher, or train a
        partitioned student, must evaluate it equally often.
        """
        if draws.own is None:
            return draws
        network = on_policy_network(self.on_policy_source, teacher, student)
        schedule = network.schedule
        counts = torch.round((1 - draws.t) * self.on_policy_steps) * draws.own.to(draws.t)
        z_t = draws.z_t
        with torch.no_grad():
            for step in range(self.on_policy_steps):
                ahead = counts > step
                rows = rows_to_evaluate(ahead, z_t)
                part, count = select_rows(replace(draws, z_t=z_t), rows), counts[rows].clamp(min=1)
                start, end = (
                    schedule.at(schedule.nearest_time(1 - (1 - part.t) * done.clamp(max=1)))
                    for done in (step / count, (step + 1) / count)
                )
                velocity = network.velocity(part.z_t, start, part.condition, part.w)
                moved = jump(start, end, schedule.velocity)(part.z_t, velocity)
                moved = torch.where(row_mask(ahead[rows], moved), moved, part.z_t)
                z_t = z_t.index_copy(0, rows, moved)
        return replace(draws, z_t=z_t, own=None)

    def target(self, teacher: Denoiser | None, draws: NoisedBatch) -> Latent:
        """Compute the guided teacher's velocity."""
        if draws.own is not None:
            raise TypeError("call rollout() before target(): some rows are still pure noise")
        teacher = require_teacher(teacher)
        level = teacher.schedule.at(draws.t)
        return teacher.velocity(draws.z_t, level, draws.condition, draws.w)

    @property
    def teacher_calls(self) -> int:
        """One call (two network evaluations under guidance)."""
        return 1
