"""Guidance: one formula, equivalent for every prediction type."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.diffusion.guidance import guide
from pipeline.diffusion.prediction import Prediction, PredictionType, express, interpret
from pipeline.diffusion.schedule import NoiseSchedule
from tests.support.cases import SCHEDULES, legal_levels, normal, times, uniform

every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
every_kind = pytest.mark.parametrize("kind", list(PredictionType))


@every_schedule
@every_kind
def test_guidance_commutes_with_interpretation(
    schedule: NoiseSchedule, kind: PredictionType
) -> None:
    level = legal_levels(schedule, kind)
    count = len(level.t)
    z_t, c, u = normal(count, 3), normal(count, 3, seed=1), normal(count, 3, seed=2)
    w = 4 * uniform(count)
    of_predictions = guide(interpret(c, kind, z_t, level), interpret(u, kind, z_t, level), w)
    of_outputs = (1 + w[:, None]) * c - w[:, None] * u
    torch.testing.assert_close(
        express(of_predictions, kind, level), of_outputs, rtol=1e-12, atol=1e-11
    )


@every_kind
def test_at_zero_it_is_the_conditional_prediction_to_the_last_digit(kind: PredictionType) -> None:
    level = SCHEDULES["cosine"].at(times(0.25, 0.75))
    z_t = normal(2, 3).float()
    conditional = interpret(normal(2, 3, seed=1).float(), kind, z_t, level)
    unconditional = interpret(normal(2, 3, seed=2).float(), kind, z_t, level)
    guided = guide(conditional, unconditional, times(0.0, 0.0))
    assert torch.equal(guided.x, conditional.x)
    assert torch.equal(guided.eps, conditional.eps)


@given(w=st.floats(-1, 20), c=st.floats(-5, 5), u=st.floats(-5, 5))
def test_it_is_one_plus_w_conditional_minus_w_unconditional(w: float, c: float, u: float) -> None:
    conditional = Prediction(x=times(c)[:, None], eps=times(-c)[:, None])
    unconditional = Prediction(x=times(u)[:, None], eps=times(-u)[:, None])
    guided = guide(conditional, unconditional, times(w))
    assert guided.x.item() == pytest.approx((1 + w) * c - w * u, abs=1e-12)
    assert guided.eps.item() == pytest.approx(-((1 + w) * c - w * u), abs=1e-12)


def test_each_sample_has_a_weight_of_its_own() -> None:
    conditional = Prediction(x=torch.ones(3, 2), eps=torch.ones(3, 2))
    unconditional = Prediction(x=torch.zeros(3, 2), eps=torch.zeros(3, 2))
    guided = guide(conditional, unconditional, times(0.0, 1.0, 4.0))
    assert guided.x.tolist() == [[1.0, 1.0], [2.0, 2.0], [5.0, 5.0]]
