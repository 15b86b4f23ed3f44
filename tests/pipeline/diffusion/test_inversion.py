"""Encoding in closed form: end points of folded steps, and round trips."""

import math

import pytest
import torch
from torch import Tensor

from pipeline.config import GaussianConfig, WDistribution
from pipeline.diffusion.ddim import jump, sample
from pipeline.diffusion.grid import Direction, Grid
from pipeline.diffusion.inversion import encode
from pipeline.diffusion.loss import LossWeight
from pipeline.diffusion.prediction import Prediction, PredictionType, interpret
from pipeline.diffusion.schedule import CosineSchedule, NoiseLevel
from pipeline.methods.method import NoisedBatch
from pipeline.methods.progressive import ProgressiveDistillation
from pipeline.models.denoiser import Denoiser, NetworkDenoiser
from pipeline.models.gaussian.gaussian import GaussianFamily
from pipeline.tensors import Condition, Latent, PerSample, per_sample
from tests.support.cases import SCHEDULES, normal

every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
COSINE = CosineSchedule(1024)
MEAN, STD = 0.7, 0.4


class ExactFlow(Denoiser):
    """The student whose every step is the exact flow of the data N(MEAN, STD^2)."""

    def __init__(self, grid: Grid) -> None:
        self.schedule = COSINE
        self.grid = grid

    def velocity(
        self, z_t: Latent, level: NoiseLevel, condition: Condition, w: PerSample
    ) -> Latent:
        end = COSINE.at(level.t + self.grid.stride / self.grid.steps)
        spread, spread_end = (
            per_sample((each.alpha**2 * STD**2 + each.sigma**2).sqrt(), z_t)
            for each in (level, end)
        )
        alpha, alpha_end = per_sample(level.alpha, z_t), per_sample(end.alpha, z_t)
        z_end = alpha_end * MEAN + spread_end / spread * (z_t - alpha * MEAN)
        step = jump(level, end, PredictionType.V)
        return (per_sample(step.a, z_t) * z_t - z_end) / per_sample(step.b, z_t)

    def __call__(
        self, z_t: Latent, level: NoiseLevel, condition: Condition, w: PerSample
    ) -> Prediction:
        velocity = self.velocity(z_t, level, condition, w)
        return interpret(velocity, PredictionType.V, z_t, level)

    def evaluations(self, w: float) -> int:
        return 1


def there(denoiser: Denoiser, x: Tensor, steps: int) -> Tensor:
    told = torch.zeros(len(x), dtype=torch.float64)
    return encode(
        x, denoiser.schedule, steps, lambda z, at: denoiser(z, at, {"label": told.long()}, told)
    )


def back(denoiser: Denoiser, z_1: Tensor, steps: int) -> Tensor:
    told = torch.zeros(len(z_1), dtype=torch.float64)
    return sample(
        z_1, denoiser.schedule, steps, lambda z, at: denoiser(z, at, {"label": told.long()}, told)
    )


@pytest.mark.parametrize("steps", [1, 2, 8])
def test_exact_students_encode_and_decode_to_where_they_began(steps: int) -> None:
    x = normal(5, 2)
    z_1 = there(ExactFlow(Grid(steps, "encode")), x, steps)
    torch.testing.assert_close(z_1, (x - MEAN) / STD, rtol=0, atol=1e-12)
    found = back(ExactFlow(Grid(steps)), z_1, steps)
    torch.testing.assert_close(found, x, rtol=0, atol=1e-12)


def gaussian(total: int, mean: float = 0.0, std: float = 1.0) -> tuple[GaussianFamily, Denoiser]:
    config = GaussianConfig(family="gaussian", means=((mean,),), std=std)
    kind = GaussianFamily(
        network=config, num_classes=1, latent_shape=(1, 1, 1), num_timesteps=total
    )
    schedule = CosineSchedule(total)
    return kind, NetworkDenoiser(
        kind, kind.build(), schedule, PredictionType.V, is_w_conditioned=False
    )


@pytest.mark.parametrize("steps", [1, 2, 4, 64])
def test_a_ddim_round_trip_shrinks_by_a_known_factor(steps: int) -> None:
    # every step of N(0, 1) multiplies by the cosine of its angle, up as well as down
    _, teacher = gaussian(64)
    x = normal(4, 1, 1, 1)
    found = back(teacher, there(teacher, x, steps), steps)
    shrunk = x * math.cos(math.pi / (2 * steps)) ** (2 * steps)
    torch.testing.assert_close(found, shrunk, rtol=0, atol=1e-12)


class ExactStudent(Denoiser):
    """A student without error: it returns its targets."""

    def __init__(self, parent: Denoiser, grid: Grid, factor: int) -> None:
        self.schedule = parent.schedule
        self.parent = parent
        teacher_grid = Grid(grid.steps * factor, grid.direction)
        law = WDistribution(min=0, max=0, mass_at_min=0)
        self.method = ProgressiveDistillation(LossWeight.TRUNCATED_SNR, law, grid, teacher_grid)

    def __call__(
        self, z_t: Latent, level: NoiseLevel, condition: Condition, w: PerSample
    ) -> Prediction:
        draws = NoisedBatch(z_t=z_t, t=level.t, w=w, condition=condition)
        return interpret(self.method.target(self.parent, draws), self.schedule.velocity, z_t, level)

    def evaluations(self, w: float) -> int:
        return 1


@pytest.mark.parametrize(("direction", "go"), [("encode", there), ("decode", back)])
def test_exact_students_of_one_step_go_where_64_steps_go(direction: Direction, go) -> None:
    _, teacher = gaussian(64, MEAN, STD)
    x = normal(4, 1, 1, 1)
    exact = go(teacher, x, 64)
    student = teacher
    for steps, factor in ((16, 4), (8, 2), (2, 4), (1, 2)):
        student = ExactStudent(student, Grid(steps, direction), factor)
        torch.testing.assert_close(go(student, x, steps), exact, rtol=0, atol=1e-11)
    truth = (x - MEAN) / STD if direction == "encode" else MEAN + STD * x
    torch.testing.assert_close(exact, truth, rtol=0.05, atol=0.1)  # the flow, but for 64 steps


def test_tables_hold_the_data_apart_from_the_noise() -> None:
    kind, _ = gaussian(4, MEAN, STD)
    student = kind.student_of(kind.build(), (0.0, 4.0)).double()
    denoiser = NetworkDenoiser(
        kind, student, CosineSchedule(4), PredictionType.V, is_w_conditioned=True
    )
    teacher = gaussian(4, MEAN, STD)[1]
    x = normal(3, 1, 1, 1)
    for steps in (1, 2, 4):
        torch.testing.assert_close(
            there(denoiser, x, steps), there(teacher, x, steps), rtol=0, atol=1e-6
        )
