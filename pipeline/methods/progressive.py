"""Stage 2: a student that makes in one step the jump its teacher makes in two (or four, ...)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Bool
from torch import Tensor

from pipeline.config import OnPolicySource, WDistribution
from pipeline.data.samples import Batch
from pipeline.diffusion.grid import Grid, steps_folded
from pipeline.diffusion.schedule import NoiseLevel, NoiseSchedule
from pipeline.diffusion.solver import Noise, fold, jump, renoise
from pipeline.methods.method import DistillationMethod, Draws, draw_w, noise_for, noised, required
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
        on_policy_fraction: share of samples that are states of the student's own sampling instead
            of noised data.
        on_policy_source: network that these states are sampled with: the current `student`, or the
            `teacher`, from which the student is initialised and which it approximates.
    """

    name: ClassVar[str] = "progressive"

    w: WDistribution
    grid: Grid
    teacher_grid: Grid
    on_policy_fraction: float = 0.0
    on_policy_source: OnPolicySource = "teacher"

    def draw(self, schedule: NoiseSchedule, batch: Batch, random: RowRandom) -> Draws:
        """Noised data at the points of the student's grid, each as likely."""
        steps = self.grid.steps
        t = (random.integers("grid point", steps).double() + self.grid.starts[0]) / steps
        z_t = noised(batch, schedule.at(t), random)
        own = None
        if self.on_policy_fraction:
            own = random.uniform("own state") < self.on_policy_fraction
            z_t = torch.where(_rows(own, z_t), noise_for(batch, random).to(z_t), z_t)
        return Draws(z_t=z_t, t=t, w=draw_w(self.w, random), condition=batch.condition, own=own)

    def settle(
        self,
        teacher: Denoiser | None,
        draws: Draws,
        random: RowRandom,
        student: Denoiser | None = None,
    ) -> Draws:
        """On-policy states where `draw` left pure noise: sampled from it, without gradient.

        One row is taken along if none is to be settled: workers that share a divided teacher, or
        train a divided student, have to ask it equally often.
        """
        if draws.own is None:
            return draws
        own = draws.own if bool(draws.own.any()) else torch.arange(len(draws.own)) == 0
        rows = own.nonzero().flatten().to(draws.z_t.device)
        part = replace(
            draws,
            z_t=draws.z_t[rows],
            t=draws.t[rows],
            w=draws.w[rows],
            condition={key: value[rows] for key, value in draws.condition.items()},
            own=None,
        )

        def noise(point: int) -> Latent:
            eps = random.normal(f"own noise {point}", *draws.z_t.shape[1:])
            return eps.to(draws.z_t.device)[rows]

        asked = self._sampled(teacher, student)

        def velocity(z_t: Latent, t: PerSample) -> Latent:
            if self.on_policy_source == "teacher":
                return self._folded(asked, part, z_t, self._levels(asked.schedule, t))
            return asked.velocity(z_t, asked.schedule.at(t), part.condition, part.w)

        with torch.no_grad():
            state = self._on_the_way(asked.schedule, velocity, part, noise)
        state = torch.where(_rows(draws.own[rows], state), state, part.z_t)
        return replace(draws, z_t=draws.z_t.index_copy(0, rows, state), own=None)

    def target(self, teacher: Denoiser | None, draws: Draws) -> Latent:
        """The velocity that lands in one step where the teacher's DDIM steps land."""
        if draws.own is not None:
            raise TypeError("some of these draws are to be settled before they have a target")
        asked = required(teacher)
        return self._folded(asked, draws, draws.z_t, self._levels(asked.schedule, draws.t))

    @property
    def teacher_calls(self) -> int:
        """One call for each of the teacher's steps."""
        return max(steps_folded(self.grid, self.teacher_grid))

    def _sampled(self, teacher: Denoiser | None, student: Denoiser | None) -> Denoiser:
        """Who is sampled for on-policy states."""
        if self.on_policy_source == "teacher":
            return required(teacher)
        if student is None:
            raise TypeError("these states are the student's as it stands, and it was not given")
        return student

    def _on_the_way(
        self,
        schedule: NoiseSchedule,
        velocity: Callable[[Latent, PerSample], Latent],
        draws: Draws,
        noise: Noise,
    ) -> Latent:
        """Where each row stands at its time if it is sampled from z_t as the student samples.

        `velocity` is that of one of the student's steps, from z_t at a time.
        """
        point = torch.round(draws.t * self.grid.steps)

        def time(at: int) -> PerSample:
            return torch.full_like(draws.t, at / self.grid.steps)

        z_t = found = draws.z_t
        for start in reversed(self.grid.starts[1:]):
            following = start - 1
            end = schedule.at(time(self.grid.end(start)))
            step = jump(schedule.at(time(start)), end, schedule.velocity)
            z_t = step(z_t, velocity(z_t, time(start)))
            if self.grid.end(start) != following:
                z_t = renoise(z_t, end, schedule.at(time(following)), noise(following))
            found = torch.where(_rows(point == following, z_t), z_t, found)
        return found

    def _folded(
        self, teacher: Denoiser, draws: Draws, z_t: Latent, levels: Sequence[NoiseLevel]
    ) -> Latent:
        """The velocity of the teacher's steps through the levels, at the draws' condition and w."""
        # a row of fewer steps has arrived at the data, where no decoder is asked: it is asked at
        # the last point before, and its answer is multiplied by a step of no length
        least = 1 / self.teacher_grid.steps if self.teacher_grid.direction == "decode" else 0.0

        def velocity(z: Latent, level: NoiseLevel) -> Latent:
            there = teacher.schedule.at(level.t.clamp(min=least))
            return teacher.velocity(z, there, draws.condition, draws.w)

        return fold(z_t, levels, velocity, teacher.schedule.velocity)

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


def _rows(mask: Bool[Tensor, " b"], like: Latent) -> Tensor:
    """A mask of rows in a shape that selects whole samples of `like`."""
    return mask.to(like.device).reshape(-1, *[1] * (like.ndim - 1))
