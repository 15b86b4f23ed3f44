"""From data to noise by the steps of DDIM taken backwards: what a sample would be drawn from."""

from pipeline.diffusion.grid import Grid
from pipeline.diffusion.schedule import NoiseSchedule
from pipeline.diffusion.solver import Denoise, ddim_step, levels_at
from pipeline.tensors import Latent


def encode(x: Latent, schedule: NoiseSchedule, num_steps: int, denoise: Denoise) -> Latent:
    """The deterministic N-step encoder: t = 0, 1/N, ..., 1 - 1/N -> 1, returning z_1.

    It is the sampler's ODE solved the other way, so that sampling from z_1 gives x again, up to the
    error of both solvers. Nothing is singular at t = 0 for a network that predicts a velocity or
    the noise; one that predicts x says nothing of the noise there.

    Args:
        x: clean samples.
        schedule: the path.
        num_steps: N, at least 1.
        denoise: (z_t, level) -> Prediction, its condition and w already given.

    Source: Song et al. 2020, arXiv:2010.02502, section 4.3; Meng et al. 2022, arXiv:2210.03142,
    progressive distillation for encoding.
    """
    grid, level = Grid(num_steps, "encode"), levels_at(schedule, num_steps, x)
    z_t = x
    for start in grid.starts:
        z_t = ddim_step(denoise(z_t, level(start)), level(grid.end(start)))
    return z_t
