"""Noise levels: the contract of every path, and the grids of stock schedulers."""

from fractions import Fraction

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
)
from hypothesis import given
from hypothesis import strategies as st

from pipeline.diffusion.prediction import PredictionType
from pipeline.diffusion.schedule import (
    CosineSchedule,
    DiscreteSchedule,
    NoiseSchedule,
    RectifiedFlow,
    diffuse,
)
from tests.support.cases import SCHEDULES, normal, times

every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())


def all_times(schedule: NoiseSchedule) -> torch.Tensor:
    total = schedule.num_train_timesteps
    return torch.arange(total + 1, dtype=torch.float64) / total


@every_schedule
def test_the_coefficients_lie_on_the_path_its_velocity_belongs_to(schedule: NoiseSchedule) -> None:
    level = schedule.at(all_times(schedule))
    # three roundings of numbers below 1
    if schedule.velocity is PredictionType.V:
        assert float((level.alpha**2 + level.sigma**2 - 1).abs().max()) < 4e-16
    else:
        assert float((level.alpha + level.sigma - 1).abs().max()) < 4e-16


@every_schedule
def test_signal_falls_and_noise_rises_strictly(schedule: NoiseSchedule) -> None:
    level = schedule.at(all_times(schedule))
    assert bool((level.alpha.diff() < 0).all())
    assert bool((level.sigma.diff() >= 0).all())
    assert bool((level.logsnr.diff() < 0).all())


@every_schedule
def test_time_zero_is_clean_data_exactly(schedule: NoiseSchedule) -> None:
    level = schedule.at(times(0.0))
    assert level.alpha.tolist() == [1.0]
    assert level.sigma.tolist() == [0.0]
    assert level.logsnr.tolist() == [float("inf")]
    x = normal(1, 3)
    assert torch.equal(diffuse(x, normal(1, 3, seed=1), level), x)


@pytest.mark.parametrize(
    "schedule", [CosineSchedule(1024), RectifiedFlow(1024), RectifiedFlow(1024, shift=3.0)]
)
def test_time_one_is_pure_noise_exactly(schedule: NoiseSchedule) -> None:
    level = schedule.at(times(1.0))
    assert level.alpha.tolist() == [0.0]
    assert level.sigma.tolist() == [1.0]
    assert level.logsnr.tolist() == [-float("inf")]


def test_stable_diffusions_schedule_keeps_signal_at_time_one() -> None:
    level = DiscreteSchedule.scaled_linear(1000).at(times(1.0))
    assert level.alpha.item() == pytest.approx(0.0683, abs=1e-4)


@every_schedule
@given(num_steps=st.integers(1, 1000))
def test_the_grid_is_exactly_i_over_n(schedule: NoiseSchedule, num_steps: int) -> None:
    grid = schedule.grid(num_steps).tolist()
    assert grid == [float(Fraction(i, num_steps)) for i in range(num_steps, -1, -1)]


@pytest.mark.parametrize("halvings", range(11))
def test_halving_grids_fall_on_the_timesteps_of_a_stock_scheduler(halvings: int) -> None:
    num_steps = 2**halvings
    schedule = CosineSchedule(1024)
    stock = DDIMScheduler(num_train_timesteps=1024, timestep_spacing="trailing")
    stock.set_timesteps(num_steps)
    ours = schedule.timestep(schedule.at(schedule.grid(num_steps)[:-1]))
    assert ours.tolist() == stock.timesteps.tolist()


def test_flow_matching_networks_are_given_the_time_itself() -> None:
    schedule = RectifiedFlow(1000)
    level = schedule.at(times(1.0, 0.5, 0.001))
    assert schedule.timestep(level).tolist() == [1000.0, 500.0, 1.0]


@every_schedule
@given(uniform=st.floats(0, 1, exclude_min=True, exclude_max=True))
def test_training_times_are_grid_times_and_never_zero(
    schedule: NoiseSchedule, uniform: float
) -> None:
    t = schedule.draw_time(times(uniform))
    position = t.item() * schedule.num_train_timesteps
    assert position == round(position)
    assert 1 <= position <= schedule.num_train_timesteps
    assert position - 1 <= uniform * schedule.num_train_timesteps <= position


@pytest.mark.parametrize("num_train_timesteps", [1, 4, 1000, 1024])
def test_training_times_reach_both_ends(num_train_timesteps: int) -> None:
    schedule = CosineSchedule(num_train_timesteps)
    t = schedule.draw_time(times(2.0**-53, 1 - 2.0**-53))
    assert t.tolist() == [1 / num_train_timesteps, 1.0]


@pytest.mark.parametrize(
    ("ours", "stock"),
    [
        (
            DiscreteSchedule.scaled_linear(1000),
            DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"),
        ),
        (DiscreteSchedule.linear(1000), DDPMScheduler()),  # its defaults are the paper's
    ],
)
def test_a_table_is_the_stock_schedulers(
    ours: DiscreteSchedule, stock: DDIMScheduler | DDPMScheduler
) -> None:
    alpha_squared = ours.at(torch.arange(1, 1001, dtype=torch.float64) / 1000).alpha ** 2
    # diffusers multiplies 1000 numbers in float32, each rounded to 6e-8
    torch.testing.assert_close(alpha_squared, stock.alphas_cumprod.double(), rtol=6e-5, atol=0)


def test_a_table_is_read_at_index_plus_one_over_t() -> None:
    schedule = DiscreteSchedule(torch.tensor([0.81, 0.25], dtype=torch.float64))
    level = schedule.at(times(0.0, 0.5, 1.0))
    assert level.alpha.tolist() == pytest.approx([1.0, 0.9, 0.5], abs=1e-15)
    assert schedule.timestep(level).tolist() == [-1.0, 0.0, 1.0]


@pytest.mark.parametrize("stock", [DDIMScheduler, DPMSolverMultistepScheduler])
@pytest.mark.parametrize("num_steps", [3, 6, 16, 32, 64])
def test_a_table_takes_step_counts_that_do_not_divide_it_as_stock_schedulers_do(
    stock: type[DDIMScheduler], num_steps: int
) -> None:
    schedule = DiscreteSchedule.scaled_linear(1000)
    scheduler = stock(num_train_timesteps=1000, timestep_spacing="trailing")
    scheduler.set_timesteps(num_steps)
    level = schedule.at(schedule.grid(num_steps)[:-1])
    assert schedule.timestep(level).tolist() == scheduler.timesteps.tolist()
    entries = schedule.at((scheduler.timesteps.double() + 1) / 1000)
    assert torch.equal(level.alpha, entries.alpha)
    assert torch.equal(level.t, entries.t)


def test_a_table_has_no_times_outside_it() -> None:
    schedule = DiscreteSchedule.scaled_linear(1000)
    for outside in (-0.001, 1.001):
        with pytest.raises(ValueError, match=r"\[0, 1\]"):
            schedule.at(times(outside))


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("num_steps", [1, 3, 4, 28])
def test_a_shifted_flow_is_the_stock_schedulers(shift: float, num_steps: int) -> None:
    schedule = RectifiedFlow(1000, shift)
    grid = schedule.grid(num_steps)
    stock = FlowMatchEulerDiscreteScheduler(shift=shift)
    stock.set_timesteps(sigmas=grid[:-1].tolist())  # as FluxPipeline calls it
    level = schedule.at(grid)
    # its times are float32: sigmas below 1, timesteps below 1000
    torch.testing.assert_close(level.sigma, stock.sigmas.double(), rtol=0, atol=2.0**-22)
    ours = schedule.timestep(level)[:-1]
    torch.testing.assert_close(ours, stock.timesteps, rtol=0, atol=1000 * 2.0**-22)


def test_a_shift_of_three_moves_the_middle_to_three_quarters() -> None:
    level = RectifiedFlow(1000, shift=3.0).at(times(1.0, 0.75, 0.5, 0.25, 0.0))
    assert level.sigma.tolist() == pytest.approx([1, 0.9, 0.75, 0.5, 0], abs=1e-15)
    assert level.t.tolist() == [1.0, 0.75, 0.5, 0.25, 0.0]
    assert level.sigma[0] == 1
    assert level.alpha[0] == 0
