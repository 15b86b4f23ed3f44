"""Jumps of any length, stochastic targets and on-policy states, against step-by-step oracles."""

import itertools
import math
from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch import Tensor

from pipeline.config import GaussianConfig, OnPolicySource, WDistribution
from pipeline.data.training_data import Batch
from pipeline.diffusion.grid import Grid
from pipeline.diffusion.loss import LossWeight
from pipeline.diffusion.prediction import PredictionType, interpret
from pipeline.diffusion.schedule import CosineSchedule, NoiseSchedule
from pipeline.diffusion.solver import ddim_step, sample
from pipeline.methods.method import NoisedBatch
from pipeline.methods.progressive import ProgressiveDistillation
from pipeline.models.denoiser import Denoiser, GuidedDenoiser, NetworkDenoiser
from pipeline.models.gaussian.gaussian import GaussianFamily
from pipeline.randomness import RowRandom
from tests.support.cases import SCHEDULES, Affine, normal, times, wavy

COUNT = 64
LAW = WDistribution(min=0, max=4, mass_at_min=0)
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())

PAIRS = {
    "thirds": (Grid(4), Grid(12)),
    "sixths": (Grid(2), Grid(12)),
    "stochastic halves": (Grid(4, sampling="stochastic"), Grid(8, sampling="stochastic")),
    "stochastic thirds": (Grid(4, sampling="stochastic"), Grid(12, sampling="stochastic")),
    "stochastic quarters": (Grid(2, sampling="stochastic"), Grid(8, sampling="stochastic")),
    "stochastic of a deterministic": (Grid(4, sampling="stochastic"), Grid(16)),
    "one stochastic step": (Grid(1, sampling="stochastic"), Grid(2, sampling="stochastic")),
    "encoder": (Grid(4, "encode"), Grid(8, "encode")),
}
every_pair = pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS.keys())


def batch(count: int = COUNT) -> Batch:
    return Batch(x=normal(count, 2, 1, 1).float(), condition={"label": torch.arange(count) % 3})


def random(count: int = COUNT) -> RowRandom:
    return RowRandom((0, 1), 0, count)


def method(
    pair: tuple[Grid, Grid], on_policy_fraction: float = 0.0, of: OnPolicySource = "teacher"
) -> ProgressiveDistillation:
    return ProgressiveDistillation(
        loss_weight=LossWeight.TRUNCATED_SNR,
        w=LAW,
        grid=pair[0],
        teacher_grid=pair[1],
        on_policy_fraction=on_policy_fraction,
        on_policy_source=of,
    )


def drawn(this: ProgressiveDistillation, schedule: NoiseSchedule) -> NoisedBatch:
    draws = this.draw(schedule, batch(), random())
    return replace(draws, z_t=draws.z_t.double())


def row(draws: NoisedBatch, index: int) -> NoisedBatch:
    one = slice(index, index + 1)
    condition = {key: value[one] for key, value in draws.condition.items()}
    return NoisedBatch(z_t=draws.z_t[one], t=draws.t[one], w=draws.w[one], condition=condition)


def steps(teacher: Denoiser, draws: NoisedBatch, grid: Grid, start: int, end: int) -> Tensor:
    """The teacher's own DDIM steps from point to point, one row at a time."""
    z_t = draws.z_t
    for begin, arrive in itertools.pairwise(grid.walk(start, end)):
        level = teacher.schedule.at(times(begin / grid.steps))
        prediction = teacher(z_t, level, draws.condition, draws.w)
        z_t = ddim_step(prediction, teacher.schedule.at(times(arrive / grid.steps)))
    return z_t


@every_schedule
@every_pair
def test_one_step_of_the_student_lands_where_the_teachers_land(
    schedule: NoiseSchedule, pair: tuple[Grid, Grid]
) -> None:
    grid, teacher_grid = pair
    this, teacher = method(pair), Affine(schedule)
    draws = drawn(this, schedule)
    target = this.target(teacher, draws)
    assert teacher.calls == this.teacher_calls
    for index in range(COUNT):
        one = row(draws, index)
        start = round(one.t.item() * grid.steps)
        factor = teacher_grid.steps // grid.steps
        end = schedule.at(times(grid.end(start) / grid.steps))
        expected = steps(teacher, one, teacher_grid, start * factor, grid.end(start) * factor)
        said = interpret(target[index : index + 1], schedule.velocity, one.z_t, schedule.at(one.t))
        torch.testing.assert_close(ddim_step(said, end), expected, rtol=0, atol=1e-12)


def gaussian() -> GuidedDenoiser:
    """The exact guided teacher of three classes, in float64."""
    config = GaussianConfig(family="gaussian", means=((-1.0, 0.5), (1.0, 0.25), (0.0, -1.0)))
    kind = GaussianFamily(network=config, num_classes=3, latent_shape=(2, 1, 1), num_timesteps=1024)
    schedule = CosineSchedule(1024)
    return GuidedDenoiser(
        NetworkDenoiser(kind, kind.build(), schedule, PredictionType.V, is_w_conditioned=False)
    )


@pytest.mark.parametrize("jump", [2, 4, 8])
@pytest.mark.parametrize("sampling", ["deterministic", "stochastic"])
def test_the_target_is_the_papers_x_for_gaussian_classes(jump: int, sampling: str) -> None:
    """x~ = (z_s - (sigma_s/sigma_t) z_t) / (alpha_s - (sigma_s/sigma_t) alpha_t), Algorithm 2."""
    pair = Grid(4, sampling=sampling), Grid(4 * jump, sampling=sampling)
    this, teacher = method(pair), gaussian()
    draws = drawn(this, teacher.schedule)
    target = this.target(teacher, draws)
    said = interpret(target, PredictionType.V, draws.z_t, teacher.schedule.at(draws.t)).x
    for index in range(COUNT):
        one = row(draws, index)
        start = round(one.t.item() * 4)
        end = pair[0].end(start)
        z_s = steps(teacher, one, pair[1], start * jump, end * jump)
        t, s = (teacher.schedule.at(times(point / 4)) for point in (start, end))
        ratio = (s.sigma / t.sigma).item()
        x = (z_s - ratio * one.z_t) / (s.alpha - ratio * t.alpha).item()
        torch.testing.assert_close(said[index : index + 1], x, rtol=0, atol=1e-11)


class Student(Denoiser):
    """One that says exactly what it is taught at its points."""

    def __init__(self, this: ProgressiveDistillation, teacher: Denoiser) -> None:
        self.this, self.teacher, self.schedule = this, teacher, teacher.schedule

    def __call__(self, z_t, level, condition, w):
        target = self.this.target(self.teacher, NoisedBatch(z_t, level.t, w, condition))
        return interpret(target, self.schedule.velocity, z_t, level)

    def evaluations(self, w: float) -> int:
        return 1


def test_an_exact_ladder_samples_what_its_first_teacher_samples() -> None:
    """16 -> 4 -> 2 deterministic steps, and each sampled: the 16 steps of the Gaussian teacher."""
    teacher = gaussian()
    four = Student(method((Grid(4), Grid(16))), teacher)
    two = Student(method((Grid(2), Grid(4))), four)
    condition, w = {"label": torch.arange(6) % 3}, times(*[2.0] * 6)

    def drawn_by(denoiser: Denoiser, count: int) -> Tensor:
        return sample(
            normal(6, 2, 1, 1), teacher.schedule, count, lambda z, at: denoiser(z, at, condition, w)
        )

    expected = drawn_by(teacher, 16)
    for denoiser, count in ((four, 4), (two, 2)):
        torch.testing.assert_close(drawn_by(denoiser, count), expected, rtol=0, atol=1e-12)


OWN = {
    "deterministic": (Grid(4), Grid(8)),
    "stochastic": (Grid(4, sampling="stochastic"), Grid(8, sampling="stochastic")),
    "first": (Grid(4, sampling="stochastic"), Grid(16)),
}
every_own = pytest.mark.parametrize("pair", OWN.values(), ids=OWN.keys())


class Wavy(Affine):
    """A student that does not say what it is taught; its answer has a gradient."""

    def __call__(self, z_t, level, condition, w):
        self.calls += 1
        said = wavy(z_t, level).requires_grad_()
        return interpret(said, self.schedule.velocity, z_t, level)


@every_schedule
@every_own
@pytest.mark.parametrize("of", get_args(OnPolicySource))
def test_on_policy_states_are_states_of_a_sampled_student(
    schedule: NoiseSchedule, pair: tuple[Grid, Grid], of: OnPolicySource
) -> None:
    """Sample it from the same noise, as it is or as it is taught; stop where each row stands."""
    this, teacher, now = method(pair, 0.5, of), Affine(schedule), Wavy(schedule)
    draws = drawn(this, schedule)
    settled = this.rollout(teacher, draws, random(), now)
    assert (teacher.calls == 0, now.calls) == ((True, 3) if of == "student" else (False, 0))
    assert not settled.z_t.requires_grad
    assert draws.own is not None
    assert settled.own is None
    kept = ~draws.own
    assert torch.equal(settled.z_t[kept], draws.z_t[kept])
    eps = random().normal("noise", 2, 1, 1).double()
    student = now if of == "student" else Student(method(pair), teacher)
    states = {4: eps}

    def denoise(z_t, level):
        states[round(level.t[0].item() * 4)] = z_t
        return student(z_t, level, draws.condition, draws.w)

    def noise(point: int) -> Tensor:
        return random().normal(f"own noise {point}", 2, 1, 1)

    is_noisy = pair[0].sampling == "stochastic"
    sample(eps, schedule, 4, denoise, noise=noise if is_noisy else None)
    for index in draws.own.nonzero().flatten().tolist():
        expected = states[round(draws.t[index].item() * 4)][index]
        torch.testing.assert_close(settled.z_t[index], expected, rtol=0, atol=1e-12)


def test_a_share_of_the_samples_are_on_policy_states() -> None:
    this, count = method(OWN["deterministic"], on_policy_fraction=0.25), 40_000
    draws = this.draw(SCHEDULES["cosine"], batch(count), random(count))
    assert draws.own is not None
    share = draws.own.double().mean().item()
    assert share == pytest.approx(0.25, abs=4 * math.sqrt(0.25 * 0.75 / count))
    plain = method(OWN["deterministic"]).draw(SCHEDULES["cosine"], batch(count), random(count))
    assert torch.equal(draws.t, plain.t)
    assert torch.equal(draws.z_t[~draws.own], plain.z_t[~draws.own])


@pytest.mark.parametrize(("of", "calls"), [("teacher", 6), ("student", 3)])
def test_who_shares_a_network_asks_it_equally_often_whoever_is_to_be_settled(
    of: OnPolicySource, calls: int
) -> None:
    this, network = method(OWN["deterministic"], 0.5, of), Affine(SCHEDULES["cosine"])
    draws = drawn(this, network.schedule)
    for own in (torch.ones(COUNT), torch.zeros(COUNT), (torch.arange(COUNT) == 5).float()):
        network.calls = 0
        settled = this.rollout(network, replace(draws, own=own.bool()), random(), network)
        assert network.calls == calls
        if not own.any():
            assert torch.equal(settled.z_t, draws.z_t)


def test_draws_have_no_target_before_they_are_settled() -> None:
    this, teacher = (
        method(OWN["deterministic"], on_policy_fraction=0.5),
        Affine(SCHEDULES["cosine"]),
    )
    draws = this.draw(teacher.schedule, batch(), random())
    with pytest.raises(TypeError, match=r"before target\(\)"):
        this.target(teacher, draws)
    with pytest.raises(TypeError, match="teacher is None"):
        this.rollout(None, draws, random())
    with pytest.raises(TypeError, match="student is None"):
        method(OWN["deterministic"], 0.5, "student").rollout(teacher, draws, random())
