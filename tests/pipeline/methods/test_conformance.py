"""The contract of every method; new methods are tested without being listed."""

from dataclasses import fields

import pytest
import torch
from torch import Tensor

from pipeline.data.training_data import Batch
from pipeline.diffusion.loss import LossKind, LossWeight
from pipeline.diffusion.prediction import PredictionType, express, interpret
from pipeline.diffusion.schedule import NoiseSchedule
from pipeline.methods.method import METHODS, NoisedBatch
from pipeline.randomness import RowRandom
from tests.support.cases import SCHEDULES, Affine, method, normal

COUNT = 64
every_method = pytest.mark.parametrize("name", METHODS.names())
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())


def batch(first: int = 0, count: int = COUNT) -> Batch:
    x = normal(COUNT, 1, 2, 2)[first : first + count].float()
    return Batch(x=x, condition={"label": torch.arange(first, first + count) % 3})


def draw(
    name: str, schedule: NoiseSchedule, path: tuple[int, ...] = (0, 1), first: int = 0, count=COUNT
) -> NoisedBatch:
    return method(name).draw(schedule, batch(first, count), RowRandom(path, first, count))


def tensors(draws: NoisedBatch) -> dict[str, Tensor]:
    values = {field.name: getattr(draws, field.name) for field in fields(draws)}
    found = {key: value for key, value in values.items() if isinstance(value, Tensor)}
    return {**found, **draws.condition}


class Saying(Affine):
    """A student that predicts the given velocity."""

    def __init__(self, schedule: NoiseSchedule, said: Tensor) -> None:
        super().__init__(schedule)
        self.said = said

    def __call__(self, z_t, level, condition, w):
        return interpret(self.said, self.schedule.velocity, z_t, level)


@every_method
@every_schedule
def test_draws_depend_on_the_row_and_not_on_the_chunk(name: str, schedule: NoiseSchedule) -> None:
    whole = tensors(draw(name, schedule))
    parts = [
        tensors(draw(name, schedule, first=first, count=count))
        for first, count in [(0, 1), (1, 30), (31, 33)]
    ]
    for key, value in whole.items():
        assert torch.equal(value, torch.cat([part[key] for part in parts])), key


@every_method
def test_draws_are_repeatable_and_rounds_draw_apart(name: str) -> None:
    schedule = SCHEDULES["cosine"]
    torch.manual_seed(1)
    first = tensors(draw(name, schedule))
    torch.manual_seed(2)  # of which draws do not depend
    again = tensors(draw(name, schedule))
    assert all(torch.equal(first[key], again[key]) for key in first)
    other = tensors(draw(name, schedule, path=(0, 2)))
    assert not torch.equal(first["z_t"], other["z_t"])
    assert not torch.equal(first["t"], other["t"])


@every_method
@every_schedule
def test_times_are_where_networks_are_evaluated(name: str, schedule: NoiseSchedule) -> None:
    draws = draw(name, schedule)
    position = draws.t * schedule.num_train_timesteps
    assert draws.t.dtype is torch.float64
    assert torch.equal(position, position.round())
    assert float(draws.t.min()) > 0
    assert float(draws.t.max()) <= 1


@every_method
@every_schedule
def test_a_target_is_deterministic_and_of_one_row_alone(name: str, schedule: NoiseSchedule) -> None:
    this, teacher = method(name), Affine(schedule)
    draws = draw(name, schedule)
    target = this.target(teacher, draws)
    assert teacher.calls == this.teacher_calls
    assert target.shape == draws.z_t.shape
    assert target.dtype is torch.float32
    assert bool(target.isfinite().all())
    assert torch.equal(this.target(teacher, draws), target)
    part = this.target(teacher, draw(name, schedule, first=7, count=20))
    torch.testing.assert_close(part, target[7:27], rtol=0, atol=0)


@every_method
@every_schedule
@pytest.mark.parametrize("weight", list(LossWeight))
@pytest.mark.parametrize("kind", list(LossKind))
def test_the_loss_equals_a_manual_computation(
    name: str, schedule: NoiseSchedule, weight: LossWeight, kind: LossKind
) -> None:
    this = method(name, loss_weight=weight, loss_kind=kind)
    draws = draw(name, schedule)
    target = this.target(Affine(schedule), draws)
    error = normal(*target.shape, seed=5).float()
    level = schedule.at(draws.t)
    omega = {
        LossWeight.SNR_PLUS_ONE: torch.ones_like(level.t),
        LossWeight.TRUNCATED_SNR: torch.maximum(level.alpha**2, level.sigma**2),
        LossWeight.SNR: level.alpha**2,
    }[weight]
    mean_square = error.double().square().mean(dim=(1, 2, 3))
    huber = 0.06 * ((mean_square + 0.03**2).sqrt() - 0.03)
    by_hand = float((omega * (mean_square if kind is LossKind.SQUARED else huber)).mean())
    loss = this.loss(Saying(schedule, target + error), draws, target)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(by_hand, rel=1e-5)


@every_method
def test_a_method_without_its_teacher_is_an_error(name: str) -> None:
    this, draws = method(name), draw(name, SCHEDULES["cosine"])
    if this.teacher_calls == 0:
        assert this.target(None, draws).shape == draws.z_t.shape
        return
    with pytest.raises(TypeError, match="teacher is None"):
        this.target(None, draws)


@every_method
@pytest.mark.parametrize("kind", list(PredictionType))
def test_a_student_is_scored_alike_whatever_its_output_is_called(
    name: str, kind: PredictionType
) -> None:
    schedule = SCHEDULES["scaled_linear"]  # here every kind determines the others at every time
    this, draws = method(name), draw(name, schedule)
    target = this.target(Affine(schedule), draws)
    level = schedule.at(draws.t)
    said = interpret(target + 1, schedule.velocity, draws.z_t, level)
    output = express(said, kind, level)
    again = express(interpret(output, kind, draws.z_t, level), schedule.velocity, level)
    expected = this.loss(Saying(schedule, target + 1), draws, target)
    found = this.loss(Saying(schedule, again), draws, target)
    # an epsilon output loses a factor 1/alpha of 15, a sample output 1/sigma of 34, in float32
    assert found.item() == pytest.approx(expected.item(), rel=1e-3)
