"""The stochastic sampler: evaluation points, and the level after renoising."""

import math

import pytest
import torch
from torch import Tensor

from pipeline.diffusion.ddim import ddim_step, renoise, sample
from pipeline.diffusion.prediction import Prediction, interpret
from pipeline.diffusion.schedule import NoiseLevel, NoiseSchedule
from tests.support.cases import SCHEDULES, normal, times, wavy

every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
SPANS = [(0.0, 0.5), (0.0, 0.125), (0.25, 0.5), (0.5, 0.75), (0.75, 0.875)]


def coefficients(start: NoiseLevel, end: NoiseLevel) -> tuple[float, float]:
    """Return the factors of `renoise` for the sample and the new noise."""
    one, zero = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    return renoise(one, start, end, zero).item(), renoise(zero, start, end, one).item()


@every_schedule
@pytest.mark.parametrize(("k", "s"), SPANS)
def test_after_noising_back_a_sample_is_exactly_as_noisy_as_its_level(
    schedule: NoiseSchedule, k: float, s: float
) -> None:
    clean, noisy = schedule.at(times(k)), schedule.at(times(s))
    kept, added = coefficients(clean, noisy)
    assert kept * clean.alpha.item() == pytest.approx(noisy.alpha.item(), abs=1e-15)
    variance = (kept * clean.sigma.item()) ** 2 + added**2
    assert variance == pytest.approx(noisy.sigma.item() ** 2, abs=1e-14)


@every_schedule
def test_gaussian_data_keep_the_marginal_of_the_level(schedule: NoiseSchedule) -> None:
    """For data N(m, v), z_k becomes z_s in mean and variance."""
    m, v = 0.7, 0.16
    clean, noisy = schedule.at(times(0.25)), schedule.at(times(0.5))

    def moments(level: NoiseLevel) -> tuple[float, float]:
        alpha, sigma = level.alpha.item(), level.sigma.item()
        return alpha * m, alpha**2 * v + sigma**2

    kept, added = coefficients(clean, noisy)
    mean, variance = moments(clean)
    assert kept * mean == pytest.approx(moments(noisy)[0], abs=1e-14)
    assert kept**2 * variance + added**2 == pytest.approx(moments(noisy)[1], abs=1e-14)


class Asked:
    """A smooth denoiser that records its evaluation times."""

    def __init__(self, schedule: NoiseSchedule) -> None:
        self.schedule = schedule
        self.times: list[float] = []

    def __call__(self, z_t: Tensor, level: NoiseLevel) -> Prediction:
        self.times.append(level.t[0].item())
        return interpret(wavy(z_t, level), self.schedule.velocity, z_t, level)


def noise(point: int) -> Tensor:
    return normal(6, 3, seed=100 + point)


@every_schedule
@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_it_is_the_papers_loop(schedule: NoiseSchedule, steps: int) -> None:
    """t -> t - 2/N by DDIM, back to t - 1/N by noise, sigma_{s|k} as printed; then 1/N -> 0."""
    denoise = Asked(schedule)
    found = sample(normal(6, 3), schedule, steps, denoise, noise=noise)
    assert denoise.times == [schedule.at(times(i / steps)).t.item() for i in range(steps, 0, -1)]
    z_t = normal(6, 3)
    for i in range(steps, 1, -1):
        at = [schedule.at(times(point / steps)) for point in (i, i - 2, i - 1)]
        t, k, s = ([level] * 6 for level in at)
        t_all, k_all, _ = (schedule.at(times(*[each[0].t.item()] * 6)) for each in (t, k, s))
        z_k = ddim_step(denoise(z_t, t_all), k_all)
        snr_s, snr_k = (
            (level.alpha.item() / level.sigma.item()) ** 2 if level.sigma else math.inf
            for level in (at[2], at[1])
        )
        sigma = math.sqrt((1 - snr_s / snr_k) * at[2].sigma.item() ** 2)
        z_t = (at[2].alpha / at[1].alpha).item() * z_k + sigma * noise(i - 1)
    last, data = (schedule.at(times(*[t] * 6)) for t in (1 / steps, 0.0))
    torch.testing.assert_close(found, ddim_step(denoise(z_t, last), data), rtol=0, atol=1e-12)


@every_schedule
def test_in_one_step_nothing_is_noised_back(schedule: NoiseSchedule) -> None:
    alone = sample(normal(6, 3), schedule, 1, Asked(schedule))
    assert torch.equal(sample(normal(6, 3), schedule, 1, Asked(schedule), noise=noise), alone)
    two = sample(normal(6, 3), schedule, 2, Asked(schedule), noise=noise)
    assert not torch.allclose(two, sample(normal(6, 3), schedule, 2, Asked(schedule)))
