"""Loss weights: written for the velocity, they are the paper's weights on x."""

import pytest
import torch

from pipeline.diffusion.loss import LossWeight, velocity_loss, weight
from pipeline.diffusion.prediction import PredictionType, interpret
from pipeline.diffusion.schedule import NoiseSchedule
from tests.support.cases import SCHEDULES, legal_levels, normal, times

every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
VARIANCE_PRESERVING = {k: s for k, s in SCHEDULES.items() if s.velocity is PredictionType.V}


def x_space_loss(
    schedule: NoiseSchedule, kind: LossWeight
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Levels inside the path, the loss there in the velocity, and on x with the paper's weight."""
    level = legal_levels(schedule, PredictionType.SAMPLE)
    inside = slice(0, -1)  # SNR = 0 at the end has weight 0 * infinity in x
    level = schedule.at(level.t[inside])
    z_t, student, target = (normal(len(level.t), 5, seed=seed) for seed in range(3))
    on_velocity = velocity_loss(student, target, weight(kind, level))
    a = interpret(student, schedule.velocity, z_t, level).x
    b = interpret(target, schedule.velocity, z_t, level).x
    snr = (level.alpha / level.sigma) ** 2
    omega = snr + 1 if kind is LossWeight.SNR_PLUS_ONE else snr.clamp(min=1)
    return level.t, on_velocity, omega * (a - b).square().mean(1)


@every_schedule
def test_truncated_snr_is_max_of_snr_and_one_on_x(schedule: NoiseSchedule) -> None:
    _, on_velocity, on_x = x_space_loss(schedule, LossWeight.TRUNCATED_SNR)
    torch.testing.assert_close(on_velocity, on_x, rtol=1e-9, atol=0)


@pytest.mark.parametrize("schedule", VARIANCE_PRESERVING.values(), ids=VARIANCE_PRESERVING.keys())
def test_snr_plus_one_is_snr_plus_one_on_x(schedule: NoiseSchedule) -> None:
    _, on_velocity, on_x = x_space_loss(schedule, LossWeight.SNR_PLUS_ONE)
    torch.testing.assert_close(on_velocity, on_x, rtol=1e-9, atol=0)


def test_snr_is_one_on_epsilon() -> None:
    schedule = SCHEDULES["scaled_linear"]
    level = legal_levels(schedule, PredictionType.EPSILON)
    z_t, student, target = (normal(len(level.t), 5, seed=seed) for seed in range(3))
    on_velocity = velocity_loss(student, target, weight(LossWeight.SNR, level))
    a = interpret(student, schedule.velocity, z_t, level).eps
    b = interpret(target, schedule.velocity, z_t, level).eps
    torch.testing.assert_close(on_velocity, (a - b).square().mean(1), rtol=1e-9, atol=1e-15)


@every_schedule
@pytest.mark.parametrize("kind", [LossWeight.SNR_PLUS_ONE, LossWeight.TRUNCATED_SNR])
def test_no_students_weight_vanishes_or_explodes_anywhere(
    schedule: NoiseSchedule, kind: LossWeight
) -> None:
    level = schedule.at(schedule.grid(1024))
    found = weight(kind, level)
    assert float(found.min()) >= 0.25
    assert float(found.max()) <= 1


def test_the_loss_of_a_sample_is_its_weighted_mean_square() -> None:
    student = torch.tensor([[1.0, 2.0], [0.0, 0.0]])
    target = torch.tensor([[0.0, 0.0], [3.0, 1.0]])
    found = velocity_loss(student, target, times(1.0, 0.5))
    assert found.tolist() == [2.5, 2.5]


def test_half_precision_is_scored_in_float32() -> None:
    student = torch.full((1, 4), 1.0, dtype=torch.bfloat16)
    target = torch.full((1, 4), 1.0009765625)
    found = velocity_loss(student, target, times(1.0))
    assert found.dtype is torch.float32
    assert found.item() == pytest.approx(0.0009765625**2)
