"""Each method against what its paper says, in numbers."""

import math

import pytest
import torch

from pipeline.config import GaussianConfig, WDistribution
from pipeline.data.training_data import Batch
from pipeline.diffusion.grid import Grid
from pipeline.diffusion.loss import LossWeight
from pipeline.diffusion.prediction import PredictionType, interpret
from pipeline.diffusion.schedule import CosineSchedule, NoiseSchedule, diffuse
from pipeline.diffusion.solver import ddim_step
from pipeline.methods.denoising import Denoising
from pipeline.methods.guidance import GuidanceDistillation
from pipeline.methods.method import NoisedBatch, draw_w
from pipeline.methods.progressive import ProgressiveDistillation
from pipeline.models.denoiser import GuidedDenoiser, NetworkDenoiser
from pipeline.models.gaussian.gaussian import GaussianFamily
from pipeline.randomness import RowRandom
from tests.support.cases import SCHEDULES, Affine, normal

COUNT = 4096
LAW = WDistribution(min=0, max=4, mass_at_min=0)
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())


def batch(count: int = COUNT) -> Batch:
    x = normal(count, 2, 1, 1).float()
    return Batch(x=x, condition={"label": torch.arange(count) % 3})


def random(count: int = COUNT) -> RowRandom:
    return RowRandom((0, 1), 0, count)


def guidance(law: WDistribution = LAW) -> GuidanceDistillation:
    return GuidanceDistillation(loss_weight=LossWeight.TRUNCATED_SNR, w=law)


def progressive(steps: int, jump: int = 2) -> ProgressiveDistillation:
    return ProgressiveDistillation(
        loss_weight=LossWeight.TRUNCATED_SNR,
        w=LAW,
        grid=Grid(steps),
        teacher_grid=Grid(steps * jump),
    )


def test_guidance_weights_follow_their_law() -> None:
    law = WDistribution(min=1, max=3, mass_at_min=0.25)
    w = draw_w(law, random(40_000))
    assert float(w.min()) == 1.0
    assert float(w.max()) < 3.0
    share = float((w == 1).double().mean())
    assert share == pytest.approx(0.25, abs=4 * math.sqrt(0.25 * 0.75 / 40_000))
    above = w[w > 1]
    assert float(above.mean()) == pytest.approx(2, abs=4 * math.sqrt(1 / 3 / len(above)))


def test_the_mean_square_of_the_weight_is_sixteen_thirds_on_zero_to_four() -> None:
    w = draw_w(LAW, random(40_000))
    spread = math.sqrt((4**4 / 5 - (16 / 3) ** 2) / 40_000)
    assert float(w.square().mean()) == pytest.approx(16 / 3, abs=4 * spread)


def test_a_law_of_one_weight_gives_that_weight() -> None:
    law = WDistribution(min=2, max=2, mass_at_min=0)
    assert set(draw_w(law, random(100)).tolist()) == {2.0}


@every_schedule
@pytest.mark.parametrize("steps", [1, 2, 8])
def test_halving_draws_every_point_of_the_students_grid_alike(
    schedule: NoiseSchedule, steps: int
) -> None:
    draws = progressive(steps).draw(schedule, batch(), random())
    counts = torch.bincount((draws.t * steps).round().long(), minlength=steps + 1)
    assert counts[0] == 0
    expected = COUNT / steps
    assert float((counts[1:] - expected).abs().max()) <= 4 * math.sqrt(expected)
    assert torch.equal(draws.t, (draws.t * steps).round() / steps)


@every_schedule
@pytest.mark.parametrize("name", ["guidance", "progressive"])
def test_students_start_from_pure_noise_whatever_the_schedule_ends_in(
    schedule: NoiseSchedule, name: str
) -> None:
    method = guidance() if name == "guidance" else progressive(2)
    bright = Batch(x=torch.full((COUNT, 2, 1, 1), 1000.0), condition=batch().condition)
    draws = method.draw(schedule, bright, random())
    at_end = draws.t == 1
    assert bool(at_end.any())
    assert float(draws.z_t[at_end].abs().max()) < 6
    assert float(draws.z_t[~at_end].abs().min()) > 6 or name == "guidance"


@every_schedule
def test_below_the_end_the_sample_is_noised_data(schedule: NoiseSchedule) -> None:
    data = batch()
    draws = guidance().draw(schedule, data, random())
    eps = random().normal("noise", 2, 1, 1)
    inside = draws.t < 1
    expected = diffuse(data.x, eps, schedule.at(draws.t))
    assert torch.equal(draws.z_t[inside], expected[inside])


@every_schedule
def test_guidance_asks_the_teacher_at_the_draw_itself(schedule: NoiseSchedule) -> None:
    teacher = Affine(schedule)
    draws = guidance().draw(schedule, batch(), random())
    expected = teacher.velocity(draws.z_t, schedule.at(draws.t), draws.condition, draws.w)
    assert torch.equal(guidance().target(teacher, draws), expected)


@every_schedule
@pytest.mark.parametrize(("steps", "jump"), [(1, 2), (4, 2), (4, 4), (2, 8), (1, 1)])
def test_one_step_of_the_target_lands_where_the_teacher_lands(
    schedule: NoiseSchedule, steps: int, jump: int
) -> None:
    teacher, method = Affine(schedule), progressive(steps, jump)
    drawn = method.draw(schedule, batch(256), random(256))
    draws = NoisedBatch(z_t=drawn.z_t.double(), t=drawn.t, w=drawn.w, condition=drawn.condition)
    z_t = draws.z_t
    for done in range(jump):
        now = schedule.at(draws.t - done / (steps * jump))
        then = schedule.at((draws.t - (done + 1) / (steps * jump)).clamp(min=0))
        z_t = ddim_step(teacher(z_t, now, draws.condition, draws.w), then)
    start, end = schedule.at(draws.t), schedule.at(draws.t - 1 / steps)
    target = interpret(method.target(teacher, draws), schedule.velocity, draws.z_t, start)
    torch.testing.assert_close(ddim_step(target, end), z_t, rtol=0, atol=1e-12)


@pytest.mark.parametrize("weight", list(LossWeight))
def test_the_first_loss_is_the_guidance_the_student_does_not_know_yet(weight: LossWeight) -> None:
    """E[w^2] E[omega ||x_c - x_u||^2], with the paper's omega on x."""
    config = GaussianConfig(family="gaussian", means=((-1.0, 0.5), (1.0, 0.25), (0.0, -1.0)))
    kind = GaussianFamily(network=config, num_classes=3, latent_shape=(2, 1, 1), num_timesteps=1024)
    schedule, module = CosineSchedule(1024), kind.build()
    network = NetworkDenoiser(kind, module, schedule, PredictionType.V, is_w_conditioned=False)
    start = NetworkDenoiser(
        kind,
        kind.student_of(module, (0.0, 4.0)).double(),
        schedule,
        PredictionType.V,
        is_w_conditioned=True,
    )
    method = GuidanceDistillation(loss_weight=weight, w=LAW)
    drawn = method.draw(schedule, batch(), random())
    inside = drawn.t < 1  # there omega is infinite and x_c, x_u are not seen through z
    draws = NoisedBatch(
        z_t=drawn.z_t[inside].double(),
        t=drawn.t[inside],
        w=drawn.w[inside],
        condition={"label": drawn.condition["label"][inside]},
    )
    loss = method.loss(start, draws, method.target(GuidedDenoiser(network), draws)).item()
    level, zero = schedule.at(draws.t), torch.zeros_like(draws.w)
    conditional = network(draws.z_t, level, draws.condition, zero).x
    null = network(draws.z_t, level, kind.null_condition(draws.condition), zero).x
    gap = (conditional - null).square().mean(dim=(1, 2, 3))
    snr = (level.alpha / level.sigma) ** 2
    omega = {
        LossWeight.SNR_PLUS_ONE: snr + 1,
        LossWeight.TRUNCATED_SNR: snr.clamp(min=1),
        LossWeight.SNR: snr,
    }[weight]
    # the student's tables were filled in float32, and w reaches 4
    assert loss == pytest.approx(float((draws.w**2 * omega * gap).mean()), rel=1e-5)
    independent = 16 / 3 * float((omega * gap).mean())
    spread = float((draws.w**2 * omega * gap).std()) / math.sqrt(len(gap))
    assert loss == pytest.approx(independent, abs=4 * spread)


def denoising(dropout: float = 0.25) -> Denoising:
    return Denoising(
        loss_weight=LossWeight.SNR_PLUS_ONE,
        null_condition={"label": torch.tensor([3])},
        label_dropout=dropout,
    )


def test_a_teacher_is_trained_with_some_conditions_dropped() -> None:
    draws = denoising().draw(SCHEDULES["cosine"], batch(), random())
    dropped = draws.condition["label"] == 3
    share = float(dropped.double().mean())
    assert share == pytest.approx(0.25, abs=4 * math.sqrt(0.25 * 0.75 / COUNT))
    assert torch.equal(draws.condition["label"][~dropped], batch().condition["label"][~dropped])
    assert draws.w.tolist() == [0.0] * COUNT
    kept = denoising(dropout=0.0).draw(SCHEDULES["cosine"], batch(), random())
    assert torch.equal(kept.condition["label"], batch().condition["label"])


@every_schedule
def test_a_teachers_target_gives_back_its_data(schedule: NoiseSchedule) -> None:
    draws = denoising().draw(schedule, batch(), random())
    target = denoising().target(None, draws)
    found = interpret(target, schedule.velocity, draws.z_t, schedule.at(draws.t))
    torch.testing.assert_close(found.x, batch().x, rtol=0, atol=2e-6)


def test_denoising_refuses_draws_of_another_method() -> None:
    draws = guidance().draw(SCHEDULES["cosine"], batch(), random())
    with pytest.raises(TypeError, match="data_velocity is missing"):
        denoising().target(None, draws)


def test_only_methods_with_a_teacher_are_pregenerable() -> None:
    assert guidance().pregenerable
    assert progressive(4).pregenerable
    assert not denoising().pregenerable
