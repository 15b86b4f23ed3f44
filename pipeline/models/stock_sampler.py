"""diffusers' own DPM-Solver++ on our schedules: the strongest training-free baseline."""

import torch
from diffusers import DPMSolverMultistepScheduler

from pipeline.diffusion.prediction import PredictionType
from pipeline.diffusion.schedule import NoiseLevel, NoiseSchedule
from pipeline.diffusion.solver import Velocity
from pipeline.errors import ConfigError
from pipeline.tensors import Latent


def why_not_dpm_solver(schedule: NoiseSchedule) -> str | None:
    """Why DPM-Solver++ is not run on this path; None if it is."""
    if schedule.velocity is PredictionType.V:
        return None
    return (
        f"dpm++ is run on variance-preserving paths only; on a {schedule.name} path diffusers' "
        "scheduler has a time grid of its own, which would not be compared at equal times"
    )


def dpm_solver_scheduler(
    schedule: NoiseSchedule, *, solver_order: int = 2
) -> DPMSolverMultistepScheduler:
    """The stock multistep scheduler for our path: same alphas, v output, trailing time grid.

    A path that ends in pure noise has alpha(1) = 0, where log-SNR is infinite. diffusers' remedy is
    used as it is (`rescale_betas_zero_snr`, alpha(1) = 2^-12); the rescaling itself changes nothing
    on a path that already ends there.

    Raises:
        ConfigError: the path is not variance preserving.

    Source: Lu et al. 2022, arXiv:2211.01095, Algorithm 2 (DPM-Solver++(2M)).
    """
    reason = why_not_dpm_solver(schedule)
    if reason is not None:
        raise ConfigError(f"{reason}; use --sampler ddim")
    total = schedule.num_train_timesteps
    signal = schedule.at(torch.arange(total + 1, dtype=torch.float64) / total).alpha.square()
    betas = 1 - signal[1:] / signal[:-1]
    return DPMSolverMultistepScheduler(
        num_train_timesteps=total,
        trained_betas=betas.tolist(),
        solver_order=solver_order,
        algorithm_type="dpmsolver++",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        rescale_betas_zero_snr=bool(signal[-1] == 0),
    )


def dpm_solver_sample(
    z_1: Latent, schedule: NoiseSchedule, num_steps: int, velocity: Velocity
) -> Latent:
    """Sample with DPM-Solver++(2M) from pure noise, `num_steps` calls of `velocity`.

    Args:
        z_1: pure noise, float32 (the scheduler computes in float32).
        schedule: the path.
        num_steps: N, dividing the schedule's T.
        velocity: the guided velocity, its condition and w already given.

    Raises:
        ConfigError: the path is not variance preserving.
    """
    scheduler = dpm_solver_scheduler(schedule)
    scheduler.set_timesteps(num_steps)
    z_t = z_1
    for timestep in scheduler.timesteps:
        level = _level_at(schedule, int(timestep), len(z_t), z_t.device)
        z_t = scheduler.step(velocity(z_t, level), timestep, z_t, return_dict=False)[0]
    return z_t


def _level_at(
    schedule: NoiseSchedule, timestep: int, count: int, device: torch.device
) -> NoiseLevel:
    # entry `index` of a discrete schedule is time (index + 1) / T
    t = torch.tensor((timestep + 1) / schedule.num_train_timesteps, dtype=torch.float64)
    return schedule.at(t.to(device).expand(count))
