"""Conversions between prediction types: inverses, with the documented meaning."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.diffusion.prediction import Prediction, PredictionType, express, interpret
from pipeline.diffusion.schedule import NoiseSchedule, diffuse
from pipeline.tensors import per_sample
from tests.support.cases import SCHEDULES, legal_levels, normal, times

every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
every_kind = pytest.mark.parametrize("kind", list(PredictionType))


@every_schedule
@every_kind
def test_express_undoes_interpret_at_every_level(
    schedule: NoiseSchedule, kind: PredictionType
) -> None:
    level = legal_levels(schedule, kind)
    output, z_t = normal(len(level.t), 2, 3), normal(len(level.t), 2, 3, seed=1)
    prediction = interpret(output, kind, z_t, level)
    # division by alpha or sigma amplifies rounding, multiplication takes it back
    torch.testing.assert_close(express(prediction, kind, level), output, rtol=1e-12, atol=1e-12)


@every_schedule
@every_kind
def test_a_prediction_explains_the_noisy_sample(
    schedule: NoiseSchedule, kind: PredictionType
) -> None:
    level = legal_levels(schedule, kind)
    output, z_t = normal(len(level.t), 4), normal(len(level.t), 4, seed=1)
    prediction = interpret(output, kind, z_t, level)
    again = diffuse(prediction.x, prediction.eps, level)
    torch.testing.assert_close(again, z_t, rtol=1e-12, atol=1e-12)


@every_schedule
@every_kind
def test_a_prediction_is_recovered_from_its_own_output(
    schedule: NoiseSchedule, kind: PredictionType
) -> None:
    level = legal_levels(schedule, kind)
    truth = Prediction(x=normal(len(level.t), 4), eps=normal(len(level.t), 4, seed=1))
    z_t = diffuse(truth.x, truth.eps, level)
    found = interpret(express(truth, kind, level), kind, z_t, level)
    smallest = float(torch.minimum(level.alpha, level.sigma).clamp(min=1e-16)[1:].min())
    tolerance = 1e-12 if kind in (PredictionType.V, PredictionType.FLOW) else 1e-15 / smallest
    torch.testing.assert_close(found.x, truth.x, rtol=0, atol=max(tolerance, 1e-12))
    torch.testing.assert_close(found.eps, truth.eps, rtol=0, atol=max(tolerance, 1e-12))


@every_schedule
@given(data=st.data())
def test_each_kind_is_what_its_name_says(schedule: NoiseSchedule, data: st.DataObject) -> None:
    index = data.draw(st.integers(1, schedule.num_train_timesteps))
    level = schedule.at(times(index / schedule.num_train_timesteps))
    x, eps = data.draw(st.floats(-9, 9)), data.draw(st.floats(-9, 9))
    alpha, sigma = level.alpha.item(), level.sigma.item()
    truth = Prediction(x=times(x)[:, None], eps=times(eps)[:, None])
    meaning = {
        PredictionType.EPSILON: eps,
        PredictionType.SAMPLE: x,
        PredictionType.V: alpha * eps - sigma * x,
        PredictionType.FLOW: eps - x,
    }
    for kind in PredictionType:
        assert express(truth, kind, level).item() == pytest.approx(meaning[kind], abs=1e-14)


@every_schedule
def test_a_velocity_has_no_singular_end(schedule: NoiseSchedule) -> None:
    level = schedule.at(times(0.0, 1.0))
    z_t, output = normal(2, 3), normal(2, 3, seed=1)
    prediction = interpret(output, schedule.velocity, z_t, level)
    assert bool(prediction.x.isfinite().all())
    assert bool(prediction.eps.isfinite().all())
    torch.testing.assert_close(prediction.x[0], z_t[0], rtol=0, atol=0)


@every_kind
def test_half_precision_is_interpreted_in_float32(kind: PredictionType) -> None:
    level = SCHEDULES["cosine"].at(times(0.25, 0.5))
    output, z_t = normal(2, 3).bfloat16(), normal(2, 3, seed=1).bfloat16()
    prediction = interpret(output, kind, z_t, level)
    exact = interpret(output.double(), kind, z_t.double(), level)
    assert prediction.x.dtype is prediction.eps.dtype is torch.float32
    torch.testing.assert_close(prediction.x.double(), exact.x, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(prediction.eps.double(), exact.eps, rtol=1e-6, atol=1e-6)


def test_a_coefficient_is_never_rounded_to_half_precision() -> None:
    coefficient = times(1 / 3)
    assert per_sample(coefficient, torch.ones(1, 2, dtype=torch.bfloat16)).dtype is torch.float32
    assert per_sample(coefficient, torch.ones(1, 2)).dtype is torch.float32
    wide = per_sample(coefficient, torch.ones(1, 2, 2, dtype=torch.float64))
    assert wide.tolist() == [[[1 / 3]]]
