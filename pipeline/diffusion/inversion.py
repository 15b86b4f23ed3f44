"""DDIM inversion: encode data to the noise that the deterministic sampler maps back to it."""

from pipeline.diffusion.ddim import Denoise, ddim_step, levels_at
from pipeline.diffusion.grid import Grid
from pipeline.diffusion.schedule import NoiseSchedule
from pipeline.tensors import Latent


def encode(x: Latent, schedule: NoiseSchedule, num_steps: int, denoise: Denoise) -> Latent:
    """Encode by N deterministic steps: t = 0, 1/N, ..., 1 - 1/N -> 1, returning z_1.

    Solves the sampler's ODE in reverse, so sampling from z_1 reproduces x up to the error of both
    solvers. Networks that predict a velocity or the noise have no singularity at t = 0; for a
    network that predicts x the noise is undefined there.

    Args:
        x: clean samples.
        schedule: the noise path.
        num_steps: N, at least 1.
        denoise: (z_t, level) -> Prediction, with condition and w bound.

    Source: Song et al. 2020, arXiv:2010.02502, section 4.3; Meng et al. 2022, arXiv:2210.03142,
    progressive distillation for encoding.
    """
    grid, level = Grid(num_steps, "encode"), levels_at(schedule, num_steps, x)
    z_t = x
    for start in grid.starts:
        z_t = ddim_step(denoise(z_t, level(start)), level(grid.end(start)))
    return z_t
