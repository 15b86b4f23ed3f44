"""Read the noise path of a stock pipeline from its scheduler's configuration."""

import math
from pathlib import Path
from typing import Any

from pipeline.errors import BundleError

FLOW = ("FlowMatchEulerDiscreteScheduler",)
DISCRETE = (
    "DDIMScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "UniPCMultistepScheduler",
)
"""Schedulers on a table of betas; their sampling rules differ, but the noise path is the same."""

_UNSUPPORTED_DISCRETE = (
    "trained_betas",
    "rescale_betas_zero_snr",
    "thresholding",
    "use_flow_sigmas",
)
_UNSUPPORTED_FLOW = (
    "shift_terminal",
    "invert_sigmas",
    "use_karras_sigmas",
    "use_exponential_sigmas",
    "use_beta_sigmas",
    "stochastic_sampling",
)


def discrete_path(scheduler: dict[str, Any], path: Path) -> tuple[dict[str, Any], str]:
    """Read the `ScheduleConfig` fields of a table of betas, and the prediction type.

    Missing keys have diffusers' defaults.

    Args:
        scheduler: the scheduler's configuration.
        path: path of its file, for messages.

    Raises:
        BundleError: the noise path is not supported.
    """
    _check_unset(scheduler, _UNSUPPORTED_DISCRETE, path)
    kind = scheduler.get("beta_schedule", "linear")
    if kind not in ("linear", "scaled_linear"):
        raise BundleError(
            f"{path}: beta_schedule {kind!r} is not supported; use linear or scaled_linear"
        )
    prediction = scheduler.get("prediction_type", "epsilon")
    if prediction not in ("epsilon", "v_prediction"):
        raise BundleError(
            f"{path}: prediction_type {prediction!r} is not supported; use epsilon or v_prediction"
        )
    fields = {
        "kind": kind,
        "num_train_timesteps": scheduler.get("num_train_timesteps", 1000),
        "beta_start": scheduler.get("beta_start", 0.0001),
        "beta_end": scheduler.get("beta_end", 0.02),
    }
    return fields, prediction


def flow_path(scheduler: dict[str, Any], path: Path) -> dict[str, Any]:
    """Read the `ScheduleConfig` fields of a straight path; its shift is `flow_shift`.

    Raises:
        BundleError: the noise path is not supported.
    """
    _check_unset(scheduler, _UNSUPPORTED_FLOW, path)
    return {
        "kind": "rectified_flow",
        "num_train_timesteps": scheduler.get("num_train_timesteps", 1000),
    }


def flow_shift(scheduler: dict[str, Any], tokens: int) -> float:
    """Compute the time shift that `FluxPipeline` uses for an image of this many tokens.

    With dynamic shifting it grows with the image: mu is linear in the number of tokens, and the
    shift is e^mu, or mu itself with `time_shift_type: linear`.

    Source: diffusers, `pipeline_flux.calculate_shift` and
    `FlowMatchEulerDiscreteScheduler.time_shift`.
    """
    if not scheduler.get("use_dynamic_shifting"):
        return float(scheduler.get("shift", 1.0))
    fewest = scheduler.get("base_image_seq_len", 256)
    most = scheduler.get("max_image_seq_len", 4096)
    least, greatest = scheduler.get("base_shift", 0.5), scheduler.get("max_shift", 1.15)
    mu = least + (greatest - least) / (most - fewest) * (tokens - fewest)
    is_linear = scheduler.get("time_shift_type", "exponential") == "linear"
    return float(mu if is_linear else math.exp(mu))


def _check_unset(scheduler: dict[str, Any], unsupported: tuple[str, ...], path: Path) -> None:
    for key in unsupported:
        if scheduler.get(key):
            raise BundleError(
                f"{path}: {key} is {scheduler[key]!r}, which changes the noise path and is not "
                "supported; remove the key if the network was not trained with it"
            )
