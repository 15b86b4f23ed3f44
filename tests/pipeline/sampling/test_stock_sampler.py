"""diffusers' scheduler on our paths: the same grid, the same steps where they must agree."""

import pytest
import torch

from pipeline.config import GaussianConfig
from pipeline.diffusion.ddim import Velocity, sample
from pipeline.diffusion.prediction import Prediction, PredictionType, interpret
from pipeline.diffusion.schedule import CosineSchedule, NoiseLevel, NoiseSchedule, RectifiedFlow
from pipeline.errors import ConfigError
from pipeline.models.gaussian.gaussian import GaussianTeacher
from pipeline.sampling.solvers import Solver, dpm_solver_scheduler, solver_sample
from pipeline.tensors import Latent
from tests.support.cases import SCHEDULES as CASES

SCHEDULES = [CosineSchedule(1024), CosineSchedule(4), CASES["scaled_linear"]]


def gaussian_velocity(std: float, mean: float) -> Velocity:
    """The exact v of N(mean, std^2) on any variance-preserving path."""

    def velocity(z_t: Latent, level: NoiseLevel) -> Latent:
        alpha, sigma = (c.float().reshape(-1, 1, 1, 1) for c in (level.alpha, level.sigma))
        gain = (z_t - alpha * mean) / (alpha**2 * std**2 + sigma**2)
        return alpha * sigma * gain - sigma * (mean + alpha * std**2 * gain)

    return velocity


def ddim(schedule: NoiseSchedule, velocity: Velocity, z_1: Latent, steps: int) -> Latent:
    def denoise(z_t: Latent, level: NoiseLevel) -> Prediction:
        return interpret(velocity(z_t, level), PredictionType.V, z_t, level)

    return sample(z_1, schedule, steps, denoise)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=["cosine", "cosine 4", "discrete"])
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_the_stock_grid_is_ours(schedule: NoiseSchedule, steps: int) -> None:
    scheduler = dpm_solver_scheduler(schedule)
    scheduler.set_timesteps(steps)
    ours = schedule.grid(steps)[:-1] * schedule.num_train_timesteps - 1
    assert scheduler.timesteps.tolist() == ours.long().tolist()


def test_its_first_order_form_is_ddim() -> None:
    schedule = CosineSchedule(1024)
    velocity = gaussian_velocity(0.5, 0.7)
    z_1 = torch.randn(64, 1, 1, 1, generator=torch.Generator().manual_seed(0))
    scheduler = dpm_solver_scheduler(schedule, solver_order=1)
    scheduler.set_timesteps(8)
    z_t = z_1
    for timestep in scheduler.timesteps:
        level = schedule.at(((timestep + 1) / 1024).double().expand(64))
        z_t = scheduler.step(velocity(z_t, level), timestep, z_t, return_dict=False)[0]

    # diffusers starts at alpha = 2^-12 instead of 0
    assert torch.allclose(z_t, ddim(schedule, velocity, z_1, 8), atol=2**-11)


@pytest.mark.parametrize(
    ("schedule", "share"), [(SCHEDULES[0], 0.5), (SCHEDULES[2], 0.75)], ids=["cosine", "discrete"]
)
@pytest.mark.parametrize("solver", ["dpm++", "unipc"])
def test_it_nears_the_exact_flow_faster_than_ddim(
    schedule: NoiseSchedule, share: float, solver: Solver
) -> None:
    mean, std = 0.7, 0.5
    velocity = gaussian_velocity(std, mean)
    z_1 = torch.randn(256, 1, 1, 1, generator=torch.Generator().manual_seed(0))
    end = schedule.at(torch.ones(1))
    spread = (end.alpha**2 * std**2 + end.sigma**2).sqrt().float()
    exact = mean + std * (z_1 - end.alpha.float() * mean) / spread  # the probability flow's map

    def error(found: Latent) -> float:
        return float((found - exact).square().mean().sqrt())

    second = error(solver_sample(z_1, schedule, 16, velocity, solver))
    assert second < share * error(ddim(schedule, velocity, z_1, 16))


@pytest.mark.parametrize("solver", ["dpm++", "unipc"])
def test_it_is_driven_by_the_gaussian_teacher_on_its_own_grid(solver: Solver) -> None:
    config = GaussianConfig(family="gaussian", means=((-1.0, 0.5), (1.0, 0.0)), std=0.4)
    teacher = GaussianTeacher(config, 1024)
    asked: list[int] = []

    def velocity(z_t: Latent, level: NoiseLevel) -> Latent:
        timestep = teacher.schedule.timestep(level)
        asked.append(int(timestep[0]))
        return teacher(z_t, timestep, torch.zeros(len(z_t), dtype=torch.int64)).float()

    found = solver_sample(torch.zeros(3, 2, 1, 1), teacher.schedule, 4, velocity, solver)
    assert asked == [1023, 767, 511, 255]
    # zero noise is the centre of the class's own flow: the mean, but for the zero-SNR remedy
    assert torch.allclose(found.flatten(1), torch.tensor([[-1.0, 0.5]]).expand(3, 2), atol=1e-3)


@pytest.mark.parametrize("solver", ["dpm++", "unipc"])
def test_a_straight_path_is_refused_with_the_reason(solver: Solver) -> None:
    z_1, flow = torch.zeros(1, 1, 1, 1), RectifiedFlow(1024)
    with pytest.raises(ConfigError, match=r"variance-preserving paths only.*--sampler ddim"):
        solver_sample(z_1, flow, 4, lambda z_t, level: z_t * level.t, solver)
