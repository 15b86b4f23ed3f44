"""Stage 2: progressive distillation of two (or four, ...) teacher steps into one student step."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from pipeline.config import (
    LossConfig,
    MethodConfig,
    OnPolicySource,
    ProgressiveConfig,
    WDistribution,
)
from pipeline.data.training_data import Batch
from pipeline.diffusion.ddim import Noise, fold, jump, renoise
from pipeline.diffusion.grid import Grid, steps_folded
from pipeline.diffusion.loss import LossKind, LossWeight
from pipeline.diffusion.schedule import NoiseLevel, NoiseSchedule
from pipeline.methods.method import (
    NoisedBatch,
    Regression,
    draw_on_policy,
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
from pipeline.tensors import Condition, Latent, PerSample


@dataclass(frozen=True)
class ProgressiveDistillation(Regression):
    """Match the folded velocity of the teacher's steps on the student's own grid.

    Source: Meng et al. 2022, arXiv:2210.03142, section 3.2 and Algorithm 2; Salimans & Ho 2022,
    arXiv:2202.00512, Algorithm 2.

    Attributes:
        w: distribution of guidance weights, also passed to the teacher.
        grid: the student's sampling grid.
        teacher_grid: the teacher's sampling grid, on which the folded steps lie.
        on_policy_fraction: fraction of samples, in [0, 1], that are on-policy states: states of the
            student's own sampling trajectory instead of noised data.
        on_policy_source: the network that samples them: the current `student`, or the
            `teacher`, from which the student is initialised. The teacher's states equal the
            student's up to the student's error.
    """

    name: ClassVar[str] = "progressive"

    w: WDistribution
    grid: Grid
    teacher_grid: Grid
    on_policy_fraction: float = 0.0
    on_policy_source: OnPolicySource = "teacher"

    @classmethod
    def build(
        cls,
        config: MethodConfig,
        loss: LossConfig,
        null: Condition,  # noqa: ARG003
    ) -> "ProgressiveDistillation":
        """Build the method of a round."""
        if not isinstance(config, ProgressiveConfig):
            raise TypeError(f"expected ProgressiveConfig, got {type(config).__name__}")
        if config.teacher_grid is None:
            raise TypeError("teacher_grid is None; plan the round with Recipe.round_configs")
        return cls(
            loss_weight=LossWeight(loss.weight),
            loss_kind=LossKind(loss.kind),
            w=weights_of(config),
            grid=config.grid,
            teacher_grid=config.teacher_grid,
            on_policy_fraction=config.on_policy_fraction,
            on_policy_source=config.on_policy_source or "teacher",
        )

    def draw(self, schedule: NoiseSchedule, batch: Batch, random: RowRandom) -> NoisedBatch:
        """Draw noised data at uniformly chosen points of the student's grid."""
        steps = self.grid.steps
        t = (random.integers("grid point", steps).double() + self.grid.starts[0]) / steps
        z_t = noise_batch(batch, schedule.at(t), random)
        z_t, on_policy = draw_on_policy(z_t, self.on_policy_fraction, batch, random)
        return NoisedBatch(
            z_t=z_t, t=t, w=draw_w(self.w, random), condition=batch.condition, own=on_policy
        )

    def rollout(
        self,
        teacher: Denoiser | None,
        draws: NoisedBatch,
        random: RowRandom,
        student: Denoiser | None = None,
    ) -> NoisedBatch:
        """Replace pure noise in on-policy rows by states sampled from it, without gradient.

        At least one row is always sampled: workers that share a partitioned teacher, or train a
        partitioned student, must evaluate it equally often.
        """
        if draws.own is None:
            return draws
        rows = rows_to_evaluate(draws.own, draws.z_t)
        part = select_rows(draws, rows)

        def noise(point: int) -> Latent:
            eps = random.normal(f"own noise {point}", *draws.z_t.shape[1:])
            return eps.to(draws.z_t.device)[rows]

        network = on_policy_network(self.on_policy_source, teacher, student)

        def velocity(z_t: Latent, t: PerSample) -> Latent:
            if self.on_policy_source == "teacher":
                return self._folded(network, part, z_t, self._levels(network.schedule, t))
            return network.velocity(z_t, network.schedule.at(t), part.condition, part.w)

        with torch.no_grad():
            state = self._trajectory_state(network.schedule, velocity, part, noise)
        state = torch.where(row_mask(draws.own[rows], state), state, part.z_t)
        return replace(draws, z_t=draws.z_t.index_copy(0, rows, state), own=None)

    def target(self, teacher: Denoiser | None, draws: NoisedBatch) -> Latent:
        """Compute the velocity that reaches in one step the end of the teacher's DDIM steps."""
        if draws.own is not None:
            raise TypeError("call rollout() before target(): some rows are still pure noise")
        teacher = require_teacher(teacher)
        return self._folded(teacher, draws, draws.z_t, self._levels(teacher.schedule, draws.t))

    @property
    def teacher_calls(self) -> int:
        """One call for each folded teacher step."""
        return max(steps_folded(self.grid, self.teacher_grid))

    def _trajectory_state(
        self,
        schedule: NoiseSchedule,
        velocity: Callable[[Latent, PerSample], Latent],
        draws: NoisedBatch,
        noise: Noise,
    ) -> Latent:
        """Sample from z_t on the student's grid and return each row's state at its own time.

        `velocity(z_t, t)` is the velocity of one student step.
        """
        point = torch.round(draws.t * self.grid.steps)

        def time(at: int) -> PerSample:
            return torch.full_like(draws.t, at / self.grid.steps)

        z_t = result = draws.z_t
        for start in reversed(self.grid.starts[1:]):
            following = start - 1
            end = schedule.at(time(self.grid.end(start)))
            step = jump(schedule.at(time(start)), end, schedule.velocity)
            z_t = step(z_t, velocity(z_t, time(start)))
            if self.grid.end(start) != following:
                z_t = renoise(z_t, end, schedule.at(time(following)), noise(following))
            result = torch.where(row_mask(point == following, z_t), z_t, result)
        return result

    def _folded(
        self, teacher: Denoiser, draws: NoisedBatch, z_t: Latent, levels: Sequence[NoiseLevel]
    ) -> Latent:
        """Fold the teacher's steps through the levels, at the batch's condition and w."""
        # rows with fewer steps are already at t = 0, where a decoder is undefined: evaluate it at
        # the last point before; the result is multiplied by a step of length 0
        min_t = 1 / self.teacher_grid.steps if self.teacher_grid.direction == "decode" else 0.0

        def velocity(z: Latent, level: NoiseLevel) -> Latent:
            clamped = teacher.schedule.at(level.t.clamp(min=min_t))
            return teacher.velocity(z, clamped, draws.condition, draws.w)

        return fold(z_t, levels, velocity, teacher.schedule.velocity)

    def _levels(self, schedule: NoiseSchedule, t: PerSample) -> list[NoiseLevel]:
        """Compute the levels between which the teacher steps, for each row."""
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
