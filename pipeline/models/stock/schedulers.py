"""Stock schedulers with the steps of our own sampler: t = 1, 1 - 1/N, ..., 1/N -> 0."""

import json
import math
from typing import Any

import torch

from pipeline.bundle import Manifest
from pipeline.config import ScheduleConfig
from pipeline.models.assemble import schedule_of


def stock_scheduler(manifest: Manifest) -> dict[str, Any]:
    """Build the `scheduler_config.json` for a network on any path.

    DDIM's `step` goes back T // N entries, which is the next time of its trailing grid only if N
    divides T. The first-order multistep solver takes the same steps but looks up the next time.
    """
    from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

    path, steps = manifest.schedule, manifest.own_steps
    if path.kind == "rectified_flow":
        return _own_grid(path, steps)
    if path.is_discrete and (steps is None or path.num_train_timesteps % steps):
        return _config(
            DPMSolverMultistepScheduler(
                solver_order=1,
                algorithm_type="dpmsolver++",
                final_sigmas_type="zero",
                **_trailing(manifest),
            )
        )
    return _config(DDIMScheduler(set_alpha_to_one=True, clip_sample=False, **_trailing(manifest)))


def flux_scheduler(manifest: Manifest) -> dict[str, Any]:
    """Build the `scheduler_config.json` for Flux, whose pipeline sets the times i/N itself."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    return _config(
        FlowMatchEulerDiscreteScheduler(
            num_train_timesteps=manifest.schedule.num_train_timesteps,
            shift=manifest.schedule.shift,
            use_dynamic_shifting=False,
        )
    )


def _trailing(manifest: Manifest) -> dict[str, Any]:
    path = manifest.schedule
    return {
        "num_train_timesteps": path.num_train_timesteps,
        "prediction_type": manifest.prediction_type,
        "timestep_spacing": "trailing",
        "steps_offset": 1,
        **_betas(path),
    }


def _betas(path: ScheduleConfig) -> dict[str, Any]:
    if path.is_discrete:
        return {
            "beta_schedule": path.kind,
            "beta_start": path.beta_start,
            "beta_end": path.beta_end,
        }
    total = path.num_train_timesteps
    times = torch.arange(total + 1, dtype=torch.float64) / total
    signal = schedule_of(path).at(times).alpha.square()
    return {"trained_betas": (1 - signal[1:] / signal[:-1]).tolist()}


def _own_grid(path: ScheduleConfig, steps: int | None) -> dict[str, Any]:
    """Configure flow matching for pipelines whose scheduler computes its grid from N alone (SD3).

    A student without a fixed step count must be called with `sigmas = 1, ..., 1/N`.
    """
    from diffusers import FlowMatchEulerDiscreteScheduler

    if steps is None or steps == 1:
        shift, terminal = path.shift, None
    else:
        shift = _inner_shift(path, steps)
        terminal = path.shift / (path.shift + steps - 1)
    return _config(
        FlowMatchEulerDiscreteScheduler(
            num_train_timesteps=path.num_train_timesteps,
            shift=shift,
            shift_terminal=terminal,
            use_dynamic_shifting=False,
        )
    )


def _inner_shift(path: ScheduleConfig, steps: int) -> float:
    """Solve for the `shift` a with which the scheduler's grid is f_s(i/N).

    Here f_s(t) = s t / (1 + (s - 1) t).

    The scheduler takes N equal steps from 1 to f_a(1/T), applies f_a, and stretches the result
    linearly so that it ends in `shift_terminal`, here f_s(1/N). Each of these maps 1 to 1. The
    result and f_s(1 - i/N) are linear-fractional in i, so they are equal for every i if their poles
    are equal:  (1 - 1/a) (T - 1) / (T + a - 1) = (1 - 1/s) (N - 1) / N.

    Source: diffusers, `FlowMatchEulerDiscreteScheduler.set_timesteps`; solved here.
    """
    pole = (1 - 1 / path.shift) * (steps - 1) / steps
    others = path.num_train_timesteps - 1
    half = (1 - pole) * others / 2
    # the root of pole a^2 - 2 half a + others = 0 that is 1 at pole = 0, without cancellation
    return others / (half + math.sqrt(half**2 - pole * others))


def _config(scheduler: Any) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(scheduler.to_json_string())
    return config
