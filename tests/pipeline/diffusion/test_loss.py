"""Loss weights on the velocity equal the paper's weights on x."""

import pytest
import torch

from pipeline.diffusion.loss import LossWeight, velocity_loss, weight
from pipeline.diffusion.prediction import PredictionType, interpret
from pipeline.diffusion.schedule import NoiseSchedule
from tests.support.cases import SCHEDULES, legal_levels, normal, times

every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
VARIANCE_PRESERVING = {k: s for k, s in SCHEDULES.items() if s.velocity is PredictionType.V}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *((name, LossWeight.TRUNCATED_SNR) for name in SCHEDULES),
        *((name, LossWeight.SNR_PLUS_ONE) for name in VARIANCE_PRESERVING),
    ],
)
def test_a_weight_of_the_velocity_is_the_papers_on_x(name: str, kind: LossWeight) -> None:
    """max(SNR, 1) and SNR + 1 on x."""
    schedule = SCHEDULES[name]
    level = schedule.at(legal_levels(schedule, PredictionType.SAMPLE).t[:-1])  # SNR = 0 has 0 * inf
    z_t, student, target = (normal(len(level.t), 5, seed=seed) for seed in range(3))
    on_velocity = velocity_loss(student, target, weight(kind, level))
    a = interpret(student, schedule.velocity, z_t, level).x
    b = interpret(target, schedule.velocity, z_t, level).x
    snr = (level.alpha / level.sigma) ** 2
    omega = snr + 1 if kind is LossWeight.SNR_PLUS_ONE else snr.clamp(min=1)
    on_x = omega * (a - b).square().mean(1)
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
def test_student_loss_weights_are_bounded(schedule: NoiseSchedule, kind: LossWeight) -> None:
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
