"""Stock schedulers take exactly the steps of our sampler, on every path and grid."""

import itertools
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.bundle import Lineage, Manifest
from pipeline.config import MMDiTConfig, ScheduleConfig, UNetConfig
from pipeline.diffusion.ddim import sample
from pipeline.diffusion.prediction import Prediction, PredictionType, interpret
from pipeline.diffusion.schedule import NoiseLevel
from pipeline.models.assemble import schedule_of
from pipeline.models.stock.schedulers import flux_scheduler, stock_scheduler

# diffusers keeps levels and samples in float32, whose rounding is 6e-8 of the largest value; the
# worst of some dozen steps is some hundred of these. A grid one entry off is 1e-3 and more.
TOLERANCE = 1e-5

VARIANCE_PRESERVING = [
    ("cosine", "v_prediction", 1024, (1, 2, 4, 8, 64)),
    ("scaled_linear", "epsilon", 1000, (1, 2, 3, 4, 6, 7, 8, 16, 32)),
    ("scaled_linear", "v_prediction", 1000, (1, 3, 8, 64)),
    ("linear", "sample", 1000, (1, 3, 4)),
    ("linear", "epsilon", 1000, (1, 3, 8)),
]


def manifest(schedule: ScheduleConfig, prediction: Any, steps: int | None) -> Manifest:
    flow = schedule.kind == "rectified_flow"
    return Manifest(
        role="student",
        network=MMDiTConfig(family="mmdit", kind="flux") if flow else UNetConfig(family="unet"),
        num_classes=0,
        latent_shape=(4, 8, 8),
        schedule=schedule,
        prediction_type=prediction,
        folder="network",
        steps=steps and (steps,),
        lineage=Lineage(run="test", round=1, parent=None),
    )


def network(z_t: Tensor, timestep: Tensor) -> Tensor:
    """A smooth function of both, so that a wrong time or level changes the result."""
    return torch.tanh(0.7 * z_t + torch.sin(timestep.float() / 100))


def noise() -> Tensor:
    return torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))


def ours(given: Manifest, steps: int) -> Tensor:
    schedule = schedule_of(given.schedule)

    def denoise(z_t: Tensor, level: NoiseLevel) -> Prediction:
        output = network(z_t, schedule.timestep(level)[0])
        return interpret(output, PredictionType(given.prediction_type), z_t, level)

    return sample(noise(), schedule, steps, denoise)


def theirs(config: dict[str, Any], steps: int, sigmas: list[float] | None = None) -> Tensor:
    scheduler = getattr(diffusers, config["_class_name"]).from_config(config)
    scheduler.set_timesteps(steps) if sigmas is None else scheduler.set_timesteps(sigmas=sigmas)
    z_t = noise()
    for timestep in scheduler.timesteps:
        z_t = scheduler.step(network(z_t, timestep), timestep, z_t, return_dict=False)[0]
    return z_t


def difference(a: Tensor, b: Tensor) -> float:
    return ((a - b).abs().max() / a.abs().max()).item()


@pytest.mark.parametrize(
    ("kind", "prediction", "total", "steps"),
    [(k, p, t, n) for k, p, t, counts in VARIANCE_PRESERVING for n in counts],
)
def test_a_variance_preserving_student_is_walked_exactly(
    kind: Any, prediction: str, total: int, steps: int
) -> None:
    schedule = ScheduleConfig(kind=kind, num_train_timesteps=total)
    given = manifest(schedule, prediction, steps)
    assert difference(ours(given, steps), theirs(stock_scheduler(given), steps)) <= TOLERANCE


@pytest.mark.parametrize("steps", [1, 3, 7, 16, 50])
def test_a_discrete_stage_1_student_takes_any_number_of_steps(steps: int) -> None:
    given = manifest(
        ScheduleConfig(kind="scaled_linear", num_train_timesteps=1000), "epsilon", None
    )
    assert difference(ours(given, steps), theirs(stock_scheduler(given), steps)) <= TOLERANCE


@pytest.mark.parametrize(
    ("shift", "steps"),
    [*itertools.product([0.5, 1.0, 3.0, 6.0], [1, 2, 4, 8, 50]), (3.0, 1000)],
)
def test_a_shifted_flow_is_walked_by_a_scheduler_that_takes_n_only(
    shift: float, steps: int
) -> None:
    path = ScheduleConfig(kind="rectified_flow", num_train_timesteps=1000, shift=shift)
    given = manifest(path, "flow_prediction", steps)
    config = stock_scheduler(given)
    assert config["use_dynamic_shifting"] is False
    assert difference(ours(given, steps), theirs(config, steps)) <= TOLERANCE


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("make", [stock_scheduler, flux_scheduler])
def test_a_flow_of_any_number_of_steps_is_given_its_times(make: Any, shift: float) -> None:
    path = ScheduleConfig(kind="rectified_flow", num_train_timesteps=1000, shift=shift)
    given = manifest(path, "flow_prediction", None)
    for steps in (1, 4, 5):
        sigmas = np.linspace(1, 1 / steps, steps).tolist()
        assert difference(ours(given, steps), theirs(make(given), steps, sigmas)) <= TOLERANCE


def test_the_default_of_stable_diffusion_is_another_sampler() -> None:
    path = ScheduleConfig(kind="scaled_linear", num_train_timesteps=1000)
    given = manifest(path, "epsilon", 4)
    leading = {**stock_scheduler(given), "timestep_spacing": "leading"}
    assert difference(ours(given, 4), theirs(leading, 4)) > 100 * TOLERANCE
