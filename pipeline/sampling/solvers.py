"""Samplers: DDIM, the paper's stochastic one, and diffusers' DPM-Solver++ and UniPC.

The last two, on our schedules, are the strongest training-free baselines.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch

from pipeline.bundle import Manifest
from pipeline.config.samplers import SamplerProperties
from pipeline.diffusion.ddim import Denoise, Noise, Velocity
from pipeline.diffusion.ddim import sample as step_by_step
from pipeline.diffusion.prediction import PredictionType
from pipeline.diffusion.schedule import NoiseLevel, NoiseSchedule
from pipeline.errors import BundleError, ConfigError
from pipeline.registry import Registry
from pipeline.tensors import Latent

Solver = Literal["dpm++", "unipc"]


def unsupported_solver_reason(schedule: NoiseSchedule) -> str | None:
    """Return why DPM-Solver++ and UniPC do not support this path; None if they do."""
    if schedule.velocity is PredictionType.V:
        return None
    return (
        f"dpm++ and unipc are supported on variance-preserving paths only; on a {schedule.name} "
        "path diffusers' schedulers use a different time grid, so results are not comparable"
    )


def dpm_solver_scheduler(schedule: NoiseSchedule, *, solver_order: int = 2) -> Any:
    """Build the stock multistep scheduler for our path: same alphas, v output, trailing time grid.

    A path that ends in pure noise has alpha(1) = 0, where log-SNR is infinite. diffusers' solution
    is used unchanged (`rescale_betas_zero_snr`, alpha(1) = 2^-12); on such a path the rescaling
    itself has no effect.

    Raises:
        ConfigError: the path is not variance preserving.

    Source: Lu et al. 2022, arXiv:2211.01095, Algorithm 2 (DPM-Solver++(2M)).
    """
    from diffusers import DPMSolverMultistepScheduler

    return DPMSolverMultistepScheduler(
        solver_order=solver_order, algorithm_type="dpmsolver++", **_our_path(schedule)
    )


def unipc_scheduler(schedule: NoiseSchedule) -> Any:
    """Build the stock UniPC scheduler for our path, of second order as for guided sampling.

    Raises:
        ConfigError: the path is not variance preserving.

    Source: Zhao et al. 2023, arXiv:2302.04867, Algorithm 1 and 2 (UniPC-2, B_2(h)).
    """
    from diffusers import UniPCMultistepScheduler

    return UniPCMultistepScheduler(solver_order=2, solver_type="bh2", **_our_path(schedule))


def _our_path(schedule: NoiseSchedule) -> dict[str, Any]:
    """Build the common arguments of stock multistep schedulers."""
    reason = unsupported_solver_reason(schedule)
    if reason is not None:
        raise ConfigError(f"{reason}; use --sampler ddim")
    total = schedule.num_train_timesteps
    signal = schedule.at(torch.arange(total + 1, dtype=torch.float64) / total).alpha.square()
    betas = 1 - signal[1:] / signal[:-1]
    return {
        "num_train_timesteps": total,
        "trained_betas": betas.tolist(),
        "prediction_type": "v_prediction",
        "timestep_spacing": "trailing",
        "rescale_betas_zero_snr": bool(signal[-1] == 0),
    }


def solver_sample(
    z_1: Latent, schedule: NoiseSchedule, num_steps: int, velocity: Velocity, solver: Solver
) -> Latent:
    """Sample with a stock solver from pure noise, `num_steps` calls of `velocity`.

    Args:
        z_1: pure noise, float32 (the schedulers compute in float32).
        schedule: the noise path.
        num_steps: N, a divisor of the schedule's T.
        velocity: the guided velocity, with condition and w bound.
        solver: `dpm++` for DPM-Solver++(2M), or `unipc`.

    Raises:
        ConfigError: the path is not variance preserving.
    """
    if solver == "unipc":
        scheduler: Any = unipc_scheduler(schedule)
    else:
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


@dataclass(frozen=True)
class SamplingTask:
    """A batch to sample.

    Attributes:
        z_1: pure noise `[b, *latent]`, float32.
        schedule: the noise path.
        steps: number of steps, a divisor of the schedule's T.
        velocity: guided velocity at (z_t, level), with condition and w bound.
        denoise: prediction at (z_t, level), with condition and w bound.
        noise: noise `[b, *latent]` for the grid point of a step's end, a function of the row.
    """

    z_1: Latent
    schedule: NoiseSchedule
    steps: int
    velocity: Velocity
    denoise: Denoise
    noise: Noise


class Sampler(SamplerProperties, ABC):
    """A sampler: from pure noise to samples. A sampler is one file: this class and its name."""

    def unsupported_reason(self, schedule: NoiseSchedule) -> str | None:  # noqa: ARG002 (for overriding methods)
        """Return why the sampler does not support this path; None if it does."""
        return None

    @abstractmethod
    def sample(self, task: SamplingTask) -> Latent:
        """Compute the samples of a batch, `[b, *latent]`."""


class Ddim(Sampler):
    """Deterministic DDIM steps.

    Source: Song et al. 2020, arXiv:2010.02502.
    """

    name: ClassVar[str] = "ddim"
    title: ClassVar[str] = "DDIM"

    def sample(self, task: SamplingTask) -> Latent:
        """Sample by `pipeline.diffusion.ddim.sample`."""
        return step_by_step(task.z_1, task.schedule, task.steps, task.denoise)


class Stochastic(Sampler):
    """DDIM steps of double length, with noise added after each, of students distilled for it.

    Source: Meng et al. 2022, arXiv:2210.03142, section 3.3.
    """

    name: ClassVar[str] = "stochastic"
    title: ClassVar[str] = "stochastic"
    adds_noise: ClassVar[bool] = True
    is_baseline: ClassVar[bool] = False

    def sample(self, task: SamplingTask) -> Latent:
        """Sample by `pipeline.diffusion.ddim.sample`, with noise."""
        return step_by_step(task.z_1, task.schedule, task.steps, task.denoise, noise=task.noise)


class _StockSolver(Sampler):
    """A multistep solver of diffusers."""

    solver: ClassVar[Solver]

    def unsupported_reason(self, schedule: NoiseSchedule) -> str | None:
        """See `unsupported_solver_reason`."""
        return unsupported_solver_reason(schedule)

    def sample(self, task: SamplingTask) -> Latent:
        """Sample by `solver_sample`."""
        return solver_sample(task.z_1, task.schedule, task.steps, task.velocity, self.solver)


class DpmSolver(_StockSolver):
    """DPM-Solver++(2M)."""

    name: ClassVar[str] = "dpm++"
    title: ClassVar[str] = "DPM-Solver++"
    solver: ClassVar[Solver] = "dpm++"


class UniPC(_StockSolver):
    """UniPC-2, B_2(h)."""

    name: ClassVar[str] = "unipc"
    title: ClassVar[str] = "UniPC"
    solver: ClassVar[Solver] = "unipc"


SAMPLERS: Registry[Sampler] = Registry(
    "pipeline.sampling",
    Sampler,  # type: ignore[type-abstract]
    "sampler",
    known=(Ddim, Stochastic, DpmSolver, UniPC),
    entry_points="stepfold.samplers",
)


def default_sampler(manifest: Manifest) -> str:
    """Return a bundle's default sampler, the one it was distilled for."""
    is_one_step = manifest.steps == (1,)  # no step follows, so no noise is added
    return "stochastic" if manifest.sampler == "stochastic" and not is_one_step else "ddim"


def check_sampler(manifest: Manifest, sampler: str) -> None:
    """Check that a student was distilled for the steps of a sampler.

    Teachers and stage-1 students are valid at any time, so they also support stochastic steps.

    Raises:
        BundleError: the sampler is not supported; the message names the one to use.
        ConfigError: no such sampler.
    """
    SAMPLERS.get(sampler)
    if manifest.role == "teacher" or sampler == default_sampler(manifest):
        return
    if sampler not in ("ddim", "stochastic"):
        raise BundleError(
            f"sampler {sampler} does not support students, whose steps are DDIM steps on their own "
            f"grid; use --sampler {default_sampler(manifest)}"
        )
    if manifest.steps in (None, (1,)):
        return
    distilled, taken = ("two", "one") if sampler == "ddim" else ("one", "two")
    raise BundleError(
        f"sampler {sampler} takes steps of {taken} grid interval(s), but this student was "
        f"distilled for steps of {distilled}; use --sampler {default_sampler(manifest)}"
    )
