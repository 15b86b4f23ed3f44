"""DDIM steps and the N-step sampler, in each of their forms."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pipeline.diffusion.ddim import ddim_step, jump, sample
from pipeline.diffusion.prediction import Prediction, PredictionType, interpret
from pipeline.diffusion.schedule import (
    CosineSchedule,
    DiscreteSchedule,
    NoiseLevel,
    NoiseSchedule,
    RectifiedFlow,
)
from tests.support.cases import SCHEDULES, normal, times, wavy

every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
COSINE = CosineSchedule(1024)


def levels_at(schedule: NoiseSchedule, *at: float, count: int = 6) -> list[NoiseLevel]:
    return [schedule.at(times(t).expand(count)) for t in at]


@every_schedule
@given(data=st.data())
def test_a_step_in_x_and_eps_is_the_jump_in_velocity(
    schedule: NoiseSchedule, data: st.DataObject
) -> None:
    total = schedule.num_train_timesteps
    start, end = (data.draw(st.integers(0, total)) / total for _ in range(2))
    now, then = levels_at(schedule, start, end)
    z_t, velocity = normal(6, 3), normal(6, 3, seed=1)
    stepped = ddim_step(interpret(velocity, schedule.velocity, z_t, now), then)
    jumped = jump(now, then, schedule.velocity)(z_t, velocity)
    torch.testing.assert_close(jumped, stepped, rtol=0, atol=1e-14)


@given(start=st.floats(0, 1), end=st.floats(0, 1))
def test_on_a_straight_path_ddim_is_euler(start: float, end: float) -> None:
    schedule = RectifiedFlow(1000)
    now, then = levels_at(schedule, start, end)
    z_t, u = normal(6, 3), normal(6, 3, seed=1)
    stepped = ddim_step(interpret(u, PredictionType.FLOW, z_t, now), then)
    torch.testing.assert_close(stepped, z_t + (end - start) * u, rtol=0, atol=1e-14)


@given(start=st.floats(0, 1), end=st.floats(0, 1))
def test_on_the_cosine_path_a_jump_is_a_rotation(start: float, end: float) -> None:
    angle = (start - end) * math.pi / 2
    found = jump(*levels_at(COSINE, start, end, count=1), PredictionType.V)
    assert found.a.item() == pytest.approx(math.cos(angle), abs=1e-15)
    assert found.b.item() == pytest.approx(math.sin(angle), abs=1e-15)


def test_a_jump_needs_a_velocity() -> None:
    now, then = levels_at(COSINE, 0.5, 0.25)
    with pytest.raises(ValueError, match="'epsilon' is not supported"):
        jump(now, then, PredictionType.EPSILON)


def standard_normal(z_t: Tensor, level: NoiseLevel) -> Prediction:
    """The exact denoiser of N(0, 1) data: x = alpha z, eps = sigma z, so v = 0."""
    return interpret(torch.zeros_like(z_t), PredictionType.V, z_t, level)


@pytest.mark.parametrize("num_steps", [1, 2, 3, 8, 64, 1024])
def test_on_standard_normal_data_n_steps_multiply_by_a_power_of_a_cosine(num_steps: int) -> None:
    z_1 = normal(5, 3)
    drawn = sample(z_1, COSINE, num_steps, standard_normal)
    factor = math.cos(math.pi / (2 * num_steps)) ** num_steps
    torch.testing.assert_close(drawn, factor * z_1, rtol=0, atol=1e-12)


@every_schedule
@pytest.mark.parametrize("num_steps", [1, 2, 16])
def test_a_sampler_takes_the_steps_of_its_grid_and_returns_the_last_x(
    schedule: NoiseSchedule, num_steps: int
) -> None:
    seen: list[float] = []
    answers: list[Tensor] = []

    def denoise(z_t: Tensor, level: NoiseLevel) -> Prediction:
        seen.append(level.t[0].item())
        prediction = interpret(wavy(z_t, level), schedule.velocity, z_t, level)
        answers.append(prediction.x)
        return prediction

    drawn = sample(normal(4, 3), schedule, num_steps, denoise)
    assert seen == [i / num_steps for i in range(num_steps, 0, -1)]
    assert torch.equal(drawn, answers[-1])


def test_a_stock_scheduler_takes_the_same_steps() -> None:
    from diffusers import DDIMScheduler

    schedule = DiscreteSchedule.scaled_linear(1024)
    stock = DDIMScheduler(
        num_train_timesteps=1024,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=True,
        prediction_type="v_prediction",
        timestep_spacing="trailing",
    )
    stock.set_timesteps(8)
    z_1 = normal(4, 3).float()
    ours = sample(z_1, schedule, 8, lambda z, at: interpret(wavy(z, at), PredictionType.V, z, at))
    z = z_1
    for timestep in stock.timesteps:
        level = schedule.at(times((timestep.item() + 1) / 1024).expand(4))
        z = stock.step(wavy(z, level), timestep, z).prev_sample
    # its alphas_cumprod are float32 products of up to 1024 factors
    torch.testing.assert_close(ours, z, rtol=0, atol=2e-4)
