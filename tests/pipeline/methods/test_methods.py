"""Each method against its paper: numbers and step-by-step reference implementations."""

import itertools
import math
from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch import Tensor

from pipeline.config import (
    DenoisingConfig,
    GaussianConfig,
    GuidanceConfig,
    LossConfig,
    OnPolicySource,
    ProgressiveConfig,
    TimeDistribution,
    WDistribution,
)
from pipeline.data.training_data import Batch
from pipeline.diffusion.ddim import ddim_step, sample
from pipeline.diffusion.grid import Grid
from pipeline.diffusion.loss import LossKind, LossWeight
from pipeline.diffusion.prediction import PredictionType, interpret
from pipeline.diffusion.schedule import CosineSchedule, NoiseSchedule, diffuse
from pipeline.errors import ConfigError
from pipeline.methods.denoising import Denoising
from pipeline.methods.guidance import GuidanceDistillation
from pipeline.methods.method import NoisedBatch, draw_time, draw_w
from pipeline.methods.progressive import ProgressiveDistillation
from pipeline.models.denoiser import Denoiser, GuidedDenoiser, NetworkDenoiser
from pipeline.models.gaussian.gaussian import GaussianFamily
from pipeline.randomness import RowRandom
from tests.support.cases import SCHEDULES, Affine, normal, times, wavy

COUNT = 4096
FEW = 24
LAW = WDistribution(min=0, max=4, mass_at_min=0)
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())


def batch(count: int = COUNT) -> Batch:
    x = normal(count, 2, 1, 1).float()
    return Batch(x=x, condition={"label": torch.arange(count) % 3})


def random(count: int = COUNT) -> RowRandom:
    return RowRandom((0, 1), 0, count)


def guidance(weight: LossWeight = LossWeight.TRUNCATED_SNR) -> GuidanceDistillation:
    return GuidanceDistillation(loss_weight=weight, w=LAW)


def progressive(
    grid: Grid, teacher_grid: Grid, on_policy_fraction: float = 0.0, of: OnPolicySource = "teacher"
) -> ProgressiveDistillation:
    return ProgressiveDistillation(
        loss_weight=LossWeight.TRUNCATED_SNR,
        w=LAW,
        grid=grid,
        teacher_grid=teacher_grid,
        on_policy_fraction=on_policy_fraction,
        on_policy_source=of,
    )


def denoising(dropout: float = 0.25) -> Denoising:
    null = {"label": torch.tensor([3])}
    return Denoising(
        loss_weight=LossWeight.SNR_PLUS_ONE, null_condition=null, label_dropout=dropout
    )


def drawn(this: ProgressiveDistillation, schedule: NoiseSchedule) -> NoisedBatch:
    draws = this.draw(schedule, batch(FEW), random(FEW))
    return replace(draws, z_t=draws.z_t.double())


def rows(draws: NoisedBatch, which: slice | Tensor) -> NoisedBatch:
    condition = {key: value[which] for key, value in draws.condition.items()}
    return NoisedBatch(draws.z_t[which].double(), draws.t[which], draws.w[which], condition)


def gaussian(*, is_student: bool = False) -> NetworkDenoiser:
    """The exact denoiser of three classes, or the guidance student that starts from it."""
    config = GaussianConfig(family="gaussian", means=((-1.0, 0.5), (1.0, 0.25), (0.0, -1.0)))
    kind = GaussianFamily(network=config, num_classes=3, latent_shape=(2, 1, 1), num_timesteps=1024)
    module = kind.build()
    if is_student:
        module = kind.student_of(module, (0.0, 4.0)).double()
    schedule = CosineSchedule(1024)
    return NetworkDenoiser(kind, module, schedule, PredictionType.V, is_w_conditioned=is_student)


def test_guidance_weights_follow_their_law() -> None:
    count = 40_000
    w = draw_w(WDistribution(min=1, max=3, mass_at_min=0.25), random(count))
    assert float(w.min()) == 1.0
    assert float(w.max()) < 3.0
    share = float((w == 1).double().mean())
    assert share == pytest.approx(0.25, abs=4 * math.sqrt(0.25 * 0.75 / count))
    above = w[w > 1]
    assert float(above.mean()) == pytest.approx(2, abs=4 * math.sqrt(1 / 3 / len(above)))
    # the mean square of the weight is sixteen thirds on zero to four
    spread = math.sqrt((4**4 / 5 - (16 / 3) ** 2) / count)
    mean_square = float(draw_w(LAW, random(count)).square().mean())
    assert mean_square == pytest.approx(16 / 3, abs=4 * spread)
    one = draw_w(WDistribution(min=2, max=2, mass_at_min=0), random(100))
    assert set(one.tolist()) == {2.0}


def test_listed_values_of_w_are_equally_likely() -> None:
    count = 30_000
    w = draw_w(WDistribution.model_validate({"values": [0, 2, 4]}), random(count))
    assert set(w.tolist()) == {0.0, 2.0, 4.0}
    spread = math.sqrt(count / 3 * 2 / 3)
    for value in (0.0, 2.0, 4.0):
        assert int((w == value).sum()) == pytest.approx(count / 3, abs=4 * spread)


def logit_normal(t: Tensor, mean: float, std: float) -> Tensor:
    return torch.special.ndtr((torch.logit(t) - mean) / std)


LAWS = {
    "uniform": (TimeDistribution(), lambda t: t),
    "logit-normal": (
        TimeDistribution(distribution="logit_normal", mean=-0.4, std=1.3),
        lambda t: logit_normal(t, -0.4, 1.3),
    ),
    # the inverse of the shift: t_n = t_m / (a - (a - 1) t_m)
    "shifted": (TimeDistribution(shift=3.0), lambda t: t / (3 - 2 * t)),
    "shifted logit-normal": (
        TimeDistribution(distribution="logit_normal", mean=0.5, std=0.8, shift=2.0),
        lambda t: logit_normal(t / (2 - t), 0.5, 0.8),
    ),
}


@pytest.mark.parametrize("law", LAWS)
def test_times_follow_the_density_of_their_law(law: str) -> None:
    """Kolmogorov-Smirnov: sqrt(n) D is above 1.95 once in a thousand samples."""
    this, cumulative = LAWS[law]
    count = 20_000
    t = draw_time(this, random(count)).sort().values
    assert float(t[0]) > 0
    assert float(t[-1]) < 1
    ranks = torch.arange(count + 1, dtype=torch.float64) / count
    expected = cumulative(t)
    distance = torch.maximum(ranks[1:] - expected, expected - ranks[:-1]).max()
    assert float(distance) < 1.95 / math.sqrt(count)


@every_schedule
def test_times_of_any_law_fall_on_the_grid_of_the_schedule(schedule: NoiseSchedule) -> None:
    # rounds to 1 in its tail
    wide = TimeDistribution(distribution="logit_normal", mean=3.0, std=9.0)
    point = schedule.draw_time(draw_time(wide, random(5000))) * schedule.num_train_timesteps
    assert torch.equal(point, point.round())
    assert (float(point.min()), float(point.max())) == (1, schedule.num_train_timesteps)


def test_a_shift_of_time_is_the_shift_of_a_flow() -> None:
    """Times shifted by a on a straight path are uniform times of the path that is shifted by a."""
    t = draw_time(TimeDistribution(shift=3.0), random())
    plain = draw_time(TimeDistribution(), random())
    shifted = SCHEDULES["shifted_flow"].at(plain).sigma
    torch.testing.assert_close(SCHEDULES["rectified_flow"].at(t).sigma, shifted, rtol=0, atol=1e-15)


@every_schedule
@pytest.mark.parametrize("steps", [1, 2, 8])
def test_halving_draws_every_point_of_the_students_grid_alike(
    schedule: NoiseSchedule, steps: int
) -> None:
    draws = progressive(Grid(steps), Grid(2 * steps)).draw(schedule, batch(), random())
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
    method = guidance() if name == "guidance" else progressive(Grid(2), Grid(4))
    bright = Batch(x=torch.full((COUNT, 2, 1, 1), 1000.0), condition=batch().condition)
    draws = method.draw(schedule, bright, random())
    at_end = draws.t == 1
    assert bool(at_end.any())
    assert float(draws.z_t[at_end].abs().max()) < 6
    assert float(draws.z_t[~at_end].abs().min()) > 6 or name == "guidance"


@every_schedule
def test_guidance_noises_data_and_evaluates_the_teacher_at_the_draw_itself(
    schedule: NoiseSchedule,
) -> None:
    data, teacher = batch(), Affine(schedule)
    draws = guidance().draw(schedule, data, random())
    inside = draws.t < 1
    noised = diffuse(data.x, random().normal("noise", 2, 1, 1), schedule.at(draws.t))
    assert torch.equal(draws.z_t[inside], noised[inside])
    expected = teacher.velocity(draws.z_t, schedule.at(draws.t), draws.condition, draws.w)
    assert torch.equal(guidance().target(teacher, draws), expected)


@pytest.mark.parametrize("weight", list(LossWeight))
def test_the_first_loss_is_the_guidance_the_student_does_not_know_yet(weight: LossWeight) -> None:
    """E[w^2] E[omega ||x_c - x_u||^2], with the paper's omega on x."""
    method, network, start = guidance(weight), gaussian(), gaussian(is_student=True)
    schedule = network.schedule
    draws = method.draw(schedule, batch(), random())
    draws = rows(draws, draws.t < 1)  # at 1 omega is infinite and x_c, x_u are not seen through z
    loss = method.loss(start, draws, method.target(GuidedDenoiser(network), draws)).item()
    level, zero = schedule.at(draws.t), torch.zeros_like(draws.w)
    null_condition = network.family.null_condition(draws.condition)
    conditional, null = (
        network(draws.z_t, level, condition, zero).x
        for condition in (draws.condition, null_condition)
    )
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


def test_denoising_refuses_a_loss_that_is_not_minimal_at_the_mean() -> None:
    null = {"label": torch.tensor([3])}
    Denoising.build(DenoisingConfig(), LossConfig(kind="squared"), null)
    with pytest.raises(ConfigError, match=r"loss.kind: pseudo_huber.*random.*use squared"):
        Denoising.build(DenoisingConfig(), LossConfig(kind="pseudo_huber"), null)


@pytest.mark.parametrize("kind", list(LossKind))
@pytest.mark.parametrize("sampling", ["deterministic", "stochastic"])
def test_either_loss_is_zero_for_the_exact_student_of_gaussian_classes(
    kind: LossKind, sampling: str
) -> None:
    """Targets are functions of (z, t, w, class): renoising is part of sampling only."""
    pair = Grid(4, sampling=sampling), Grid(8, sampling=sampling)
    this, teacher = progressive(*pair), GuidedDenoiser(gaussian())
    this = replace(this, loss_kind=kind)
    draws = drawn(this, teacher.schedule)
    target = this.target(teacher, draws)
    assert this.loss(Student(this, teacher), draws, target) < 1e-28
    assert this.loss(teacher, draws, target) > 1e-5


def test_denoising_refuses_draws_of_another_method() -> None:
    draws = guidance().draw(SCHEDULES["cosine"], batch(), random())
    with pytest.raises(TypeError, match="data_velocity is missing"):
        denoising().target(None, draws)


def test_only_methods_with_a_teacher_are_pregenerable() -> None:
    assert GuidanceConfig.pregenerable
    assert ProgressiveConfig.pregenerable
    assert not DenoisingConfig.pregenerable


def steps(teacher: Denoiser, draws: NoisedBatch, grid: Grid, start: int, end: int) -> Tensor:
    """The teacher's own DDIM steps from point to point, one row at a time."""
    z_t = draws.z_t
    for begin, arrive in itertools.pairwise(grid.walk(start, end)):
        level = teacher.schedule.at(times(begin / grid.steps))
        prediction = teacher(z_t, level, draws.condition, draws.w)
        z_t = ddim_step(prediction, teacher.schedule.at(times(arrive / grid.steps)))
    return z_t


def noisy(steps: int) -> Grid:
    return Grid(steps, sampling="stochastic")


PAIRS = {
    "one step": (Grid(1), Grid(2)),
    "as many": (Grid(1), Grid(1)),
    "halves": (Grid(4), Grid(8)),
    "thirds": (Grid(4), Grid(12)),
    "eighths": (Grid(2), Grid(16)),
    "stochastic halves": (noisy(4), noisy(8)),
    "stochastic thirds": (noisy(4), noisy(12)),
    "stochastic quarters": (noisy(2), noisy(8)),
    "stochastic of a deterministic": (noisy(4), Grid(16)),
    "one stochastic step": (noisy(1), noisy(2)),
    "encoder": (Grid(4, "encode"), Grid(8, "encode")),
}


@every_schedule
@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS.keys())
def test_one_step_of_the_student_lands_where_the_teachers_land(
    schedule: NoiseSchedule, pair: tuple[Grid, Grid]
) -> None:
    grid, teacher_grid = pair
    this, teacher = progressive(*pair), Affine(schedule)
    draws = drawn(this, schedule)
    target = this.target(teacher, draws)
    assert teacher.calls == this.teacher_calls
    factor = teacher_grid.steps // grid.steps
    for index in range(FEW):
        one = rows(draws, slice(index, index + 1))
        start = round(one.t.item() * grid.steps)
        end = schedule.at(times(grid.end(start) / grid.steps))
        expected = steps(teacher, one, teacher_grid, start * factor, grid.end(start) * factor)
        said = interpret(target[index : index + 1], schedule.velocity, one.z_t, schedule.at(one.t))
        torch.testing.assert_close(ddim_step(said, end), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("jump", [2, 8])
@pytest.mark.parametrize("sampling", ["deterministic", "stochastic"])
def test_the_target_is_the_papers_x_for_gaussian_classes(jump: int, sampling: str) -> None:
    """x~ = (z_s - (sigma_s/sigma_t) z_t) / (alpha_s - (sigma_s/sigma_t) alpha_t), Algorithm 2."""
    grid, teacher_grid = Grid(4, sampling=sampling), Grid(4 * jump, sampling=sampling)
    this, teacher = progressive(grid, teacher_grid), GuidedDenoiser(gaussian())
    draws = drawn(this, teacher.schedule)
    target = this.target(teacher, draws)
    said = interpret(target, PredictionType.V, draws.z_t, teacher.schedule.at(draws.t)).x
    for index in range(FEW):
        one = rows(draws, slice(index, index + 1))
        start = round(one.t.item() * 4)
        end = grid.end(start)
        z_s = steps(teacher, one, teacher_grid, start * jump, end * jump)
        t, s = (teacher.schedule.at(times(point / 4)) for point in (start, end))
        ratio = (s.sigma / t.sigma).item()
        x = (z_s - ratio * one.z_t) / (s.alpha - ratio * t.alpha).item()
        torch.testing.assert_close(said[index : index + 1], x, rtol=0, atol=1e-11)


class Student(Affine):
    """A student that predicts its targets exactly."""

    def __init__(self, this: ProgressiveDistillation, teacher: Denoiser) -> None:
        super().__init__(teacher.schedule)
        self.this, self.teacher = this, teacher

    def __call__(self, z_t, level, condition, w):
        target = self.this.target(self.teacher, NoisedBatch(z_t, level.t, w, condition))
        return interpret(target, self.schedule.velocity, z_t, level)


def test_an_exact_ladder_samples_what_its_first_teacher_samples() -> None:
    """Samples of exact 16 -> 4 -> 2 students, and of the Gaussian teacher in 16 steps."""
    teacher = GuidedDenoiser(gaussian())
    four = Student(progressive(Grid(4), Grid(16)), teacher)
    two = Student(progressive(Grid(2), Grid(4)), four)
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
    "stochastic": (noisy(4), noisy(8)),
    "first": (noisy(4), Grid(16)),
}


class Wavy(Affine):
    """A student that does not predict its targets, with a gradient."""

    def __call__(self, z_t, level, condition, w):
        self.calls += 1
        said = wavy(z_t, level).requires_grad_()
        return interpret(said, self.schedule.velocity, z_t, level)


@every_schedule
@pytest.mark.parametrize("pair", OWN.values(), ids=OWN.keys())
@pytest.mark.parametrize("of", get_args(OnPolicySource))
def test_on_policy_states_are_states_of_a_sampled_student(
    schedule: NoiseSchedule, pair: tuple[Grid, Grid], of: OnPolicySource
) -> None:
    """Sample from the same noise, by student or targets; stop each row at its own point."""
    this, teacher, now = progressive(*pair, 0.5, of), Affine(schedule), Wavy(schedule)
    draws = drawn(this, schedule)
    settled = this.rollout(teacher, draws, random(FEW), now)
    assert (teacher.calls == 0, now.calls) == ((True, 3) if of == "student" else (False, 0))
    assert not settled.z_t.requires_grad
    assert draws.own is not None
    assert settled.own is None
    kept = ~draws.own
    assert torch.equal(settled.z_t[kept], draws.z_t[kept])
    eps = random(FEW).normal("noise", 2, 1, 1).double()
    student = now if of == "student" else Student(progressive(*pair), teacher)
    states = {4: eps}

    def denoise(z_t, level):
        states[round(level.t[0].item() * 4)] = z_t
        return student(z_t, level, draws.condition, draws.w)

    def noise(point: int) -> Tensor:
        return random(FEW).normal(f"own noise {point}", 2, 1, 1)

    is_noisy = pair[0].sampling == "stochastic"
    sample(eps, schedule, 4, denoise, noise=noise if is_noisy else None)
    for index in draws.own.nonzero().flatten().tolist():
        expected = states[round(draws.t[index].item() * 4)][index]
        torch.testing.assert_close(settled.z_t[index], expected, rtol=0, atol=1e-12)


def test_a_share_of_the_samples_are_on_policy_states() -> None:
    this, count = progressive(*OWN["deterministic"], 0.25), 40_000
    draws = this.draw(SCHEDULES["cosine"], batch(count), random(count))
    assert draws.own is not None
    share = draws.own.double().mean().item()
    assert share == pytest.approx(0.25, abs=4 * math.sqrt(0.25 * 0.75 / count))
    plain = progressive(*OWN["deterministic"]).draw(
        SCHEDULES["cosine"], batch(count), random(count)
    )
    assert torch.equal(draws.t, plain.t)
    assert torch.equal(draws.z_t[~draws.own], plain.z_t[~draws.own])


@pytest.mark.parametrize(("of", "calls"), [("teacher", 6), ("student", 3)])
def test_workers_with_a_shared_network_evaluate_it_equally_often(
    of: OnPolicySource, calls: int
) -> None:
    this, network = progressive(*OWN["deterministic"], 0.5, of), Affine(SCHEDULES["cosine"])
    draws = drawn(this, network.schedule)
    for own in (torch.ones(FEW), torch.zeros(FEW), (torch.arange(FEW) == 5).float()):
        network.calls = 0
        settled = this.rollout(network, replace(draws, own=own.bool()), random(FEW), network)
        assert network.calls == calls
        if not own.any():
            assert torch.equal(settled.z_t, draws.z_t)


def test_draws_have_no_target_before_they_are_settled() -> None:
    this, teacher = progressive(*OWN["deterministic"], 0.5), Affine(SCHEDULES["cosine"])
    draws = this.draw(teacher.schedule, batch(FEW), random(FEW))
    with pytest.raises(TypeError, match=r"before target\(\)"):
        this.target(teacher, draws)
    with pytest.raises(TypeError, match="teacher is None"):
        this.rollout(None, draws, random(FEW))
    with pytest.raises(TypeError, match="student is None"):
        progressive(*OWN["deterministic"], 0.5, "student").rollout(teacher, draws, random(FEW))


def own_guidance(fraction: float = 0.5, of: OnPolicySource = "teacher", steps: int = 16):
    return replace(
        guidance(), on_policy_fraction=fraction, on_policy_source=of, on_policy_steps=steps
    )


@every_schedule
@pytest.mark.parametrize("of", get_args(OnPolicySource))
def test_guidance_meets_states_of_ddim_at_each_samples_own_w_and_time(
    schedule: NoiseSchedule, of: OnPolicySource
) -> None:
    this, teacher, student = own_guidance(of=of), Affine(schedule), Wavy(schedule)
    network = teacher if of == "teacher" else student
    draws = this.draw(schedule, batch(FEW), random(FEW))
    draws = replace(draws, z_t=draws.z_t.double())
    settled = this.rollout(teacher, draws, random(FEW), student)
    assert network.calls == 16
    assert teacher.calls + student.calls == 16
    assert not settled.z_t.requires_grad
    assert draws.own is not None
    assert settled.own is None
    assert torch.equal(settled.z_t[~draws.own], draws.z_t[~draws.own])
    assert 0 < int(draws.own.sum()) < FEW
    for index in draws.own.nonzero().flatten().tolist():
        one = rows(draws, slice(index, index + 1))
        count = round((1 - one.t.item()) * 16)
        path = [1 - (1 - one.t.item()) * done / count for done in range(count + 1)] if count else []
        at = [schedule.at(schedule.nearest_time(times(t))) for t in path]
        z_t = one.z_t
        for start, end in itertools.pairwise(at):
            z_t = ddim_step(network(z_t, start, one.condition, one.w), end)
        torch.testing.assert_close(settled.z_t[index], z_t[0], rtol=0, atol=1e-11)
    target = this.target(teacher, settled)
    expected = teacher.velocity(settled.z_t, schedule.at(draws.t), draws.condition, draws.w)
    assert torch.equal(target, expected)


def test_on_policy_states_of_guidance_lie_on_the_exact_flow_of_gaussian_classes() -> None:
    """For N(m, s^2) the flow from z_1 = eps ends in alpha m + sqrt(alpha^2 s^2 + sigma^2) eps."""
    config = GaussianConfig(family="gaussian", means=((-1.0, 0.5), (1.0, 0.25), (0.0, -1.0)))
    teacher = GuidedDenoiser(gaussian())
    this = replace(own_guidance(steps=128), w=WDistribution(min=0, max=0, mass_at_min=0))
    draws = this.draw(teacher.schedule, batch(FEW), random(FEW))
    draws = replace(draws, z_t=draws.z_t.double())
    settled = this.rollout(teacher, draws, random(FEW))
    level = teacher.schedule.at(draws.t)
    mean = torch.tensor(config.means, dtype=torch.float64)[draws.condition["label"]]
    spread = (level.alpha**2 * config.std**2 + level.sigma**2).sqrt()
    exact = level.alpha[:, None] * mean + spread[:, None] * draws.z_t.flatten(1)
    own = draws.own
    assert own is not None
    found = settled.z_t.flatten(1)
    torch.testing.assert_close(found[own], exact[own], rtol=0, atol=1e-2)  # of order 1 / 128
    assert float((draws.z_t.flatten(1) - exact)[own].abs().max()) > 0.5


def test_states_of_guidance_leave_all_other_draws_as_they_are() -> None:
    count = 40_000
    own, plain = (
        each.draw(SCHEDULES["cosine"], batch(count), random(count))
        for each in (own_guidance(0.25), guidance())
    )
    assert own.own is not None
    share = own.own.double().mean().item()
    assert share == pytest.approx(0.25, abs=4 * math.sqrt(0.25 * 0.75 / count))
    assert torch.equal(own.t, plain.t)
    assert torch.equal(own.w, plain.w)
    assert torch.equal(own.z_t[~own.own], plain.z_t[~own.own])
    with pytest.raises(TypeError, match=r"before target\(\)"):
        guidance().target(Affine(SCHEDULES["cosine"]), own)


def test_the_plan_counts_the_teacher_calls_that_states_of_guidance_take() -> None:
    """Rows that have arrived are not evaluated; calls are counted per row."""

    class Counting(Affine):
        rows = 0

        def __call__(self, z_t, level, condition, w):
            self.rows += len(z_t)
            return super().__call__(z_t, level, condition, w)

    for time in (TimeDistribution(), LAWS["logit-normal"][0]):
        config = GuidanceConfig(w=LAW, time=time, on_policy_fraction=0.25)
        config = config.resolved(None, online=False)
        this = GuidanceDistillation.build(config, LossConfig(), {})
        network, count = Counting(SCHEDULES["cosine"]), 4096
        draws = this.rollout(
            network, this.draw(network.schedule, batch(count), random(count)), random(count)
        )
        this.target(network, draws)
        # the spread of steps per row is at most 16, for one row in four
        spread = 16 * math.sqrt(0.25 / count)
        assert network.rows / count == pytest.approx(config.evaluations_per_target, abs=3 * spread)


@pytest.mark.parametrize("of", get_args(OnPolicySource))
def test_workers_evaluate_guidance_equally_often(of: OnPolicySource) -> None:
    this, network = own_guidance(of=of), Affine(SCHEDULES["cosine"])
    draws = this.draw(network.schedule, batch(FEW), random(FEW))
    for own in (torch.ones(FEW), torch.zeros(FEW), (torch.arange(FEW) == 5).float()):
        network.calls = 0
        settled = this.rollout(network, replace(draws, own=own.bool()), random(FEW), network)
        assert network.calls == 16
        if not own.any():
            assert torch.equal(settled.z_t, draws.z_t)
