"""The laws that times and guidance weights of stage 1 are drawn from, against their densities."""

import math

import pytest
import torch
from torch import Tensor

from pipeline.config import TimeDistribution, WDistribution
from pipeline.diffusion.schedule import NoiseSchedule
from pipeline.methods.method import draw_time, draw_w
from pipeline.randomness import RowRandom
from tests.support.cases import SCHEDULES

every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())


def random(count: int = 64) -> RowRandom:
    return RowRandom((0, 1), 0, count)


def test_values_of_w_are_each_as_likely() -> None:
    law, count = WDistribution.model_validate({"values": [0, 2, 4]}), 30_000
    w = draw_w(law, random(count))
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
    """Kolmogorov-Smirnov: sqrt(n) D is above 1.95 once in a thousand samples (of any law)."""
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
