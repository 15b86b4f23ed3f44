"""Loss weights on the velocity equal the paper's weights on x."""

import math

import pytest
import torch

from pipeline.diffusion.loss import HUBER_SCALE, LossKind, LossWeight, velocity_loss, weight
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


HUBER = LossKind.PSEUDO_HUBER


@pytest.mark.parametrize("scale", [1e-6, 0.03, 1.0, 1e4])
@pytest.mark.parametrize("dimensions", [1, 64])
def test_pseudo_huber_is_the_published_one_in_the_scale_of_the_squared(
    scale: float, dimensions: int
) -> None:
    """sqrt(||e||^2 + c^2) - c with c = .03 sqrt(d), multiplied by .06 / sqrt(d)."""
    error = scale * normal(5, dimensions)
    found = velocity_loss(error, torch.zeros_like(error), times(*[0.5] * 5), HUBER)
    c = HUBER_SCALE * math.sqrt(dimensions)
    published = torch.sqrt(error.square().sum(1) + c**2) - c
    expected = 0.5 * published * 2 * HUBER_SCALE / math.sqrt(dimensions)
    # the difference of the published form loses the digits of small errors
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-17)


def gradient(error: torch.Tensor, kind: LossKind) -> torch.Tensor:
    error = error.clone().requires_grad_()
    velocity_loss(error, torch.zeros_like(error), times(*[1.0] * len(error)), kind).sum().backward()
    assert error.grad is not None
    return error.grad


def test_its_gradient_is_at_most_the_squared_ones_and_does_not_grow_with_the_error() -> None:
    directions = normal(1, 64)
    sizes = times(0.0, 1e-6, 1e-3, 0.03, 1.0, 100.0)[:, None]
    error = sizes * directions / directions.square().mean().sqrt()
    squared, huber = (gradient(error, kind).norm(dim=1) for kind in (LossKind.SQUARED, HUBER))
    ratio = HUBER_SCALE / (sizes.flatten().square() + HUBER_SCALE**2).sqrt()
    torch.testing.assert_close(huber, ratio * squared, rtol=1e-12, atol=0)
    assert huber[0] == 0  # and not NaN
    assert float(huber.max()) < 2 * HUBER_SCALE / math.sqrt(64)


def test_only_the_squared_loss_has_its_minimum_at_the_mean_of_random_targets() -> None:
    target = torch.zeros(400, 1, dtype=torch.float64)
    target[:100] = 1  # mean .25, median 0
    tried = torch.linspace(0, 1, 101, dtype=torch.float64)
    best = {}
    for kind in LossKind:
        losses = [
            velocity_loss(value.expand(400, 1), target, times(*[1.0] * 400), kind).mean()
            for value in tried
        ]
        best[kind] = float(tried[torch.stack(losses).argmin()])
    assert best[LossKind.SQUARED] == pytest.approx(0.25)
    assert best[HUBER] <= 0.02
