"""Heun's method, as a sampler of its own."""

from typing import ClassVar

from pipeline.diffusion.ddim import jump, levels_at
from pipeline.sampling.solvers import Sampler, SamplingTask
from pipeline.tensors import Latent


class Heun(Sampler):
    """Each step takes the mean of the velocities at its start and at the end of a DDIM step."""

    name: ClassVar[str] = "heun"
    title: ClassVar[str] = "Heun"
    evaluations_per_step: ClassVar[int] = 2

    def sample(self, task: SamplingTask) -> Latent:
        """Sample from t = 1 to 0."""
        level, z = levels_at(task.schedule, task.steps, task.z_1), task.z_1
        for point in range(task.steps, 0, -1):
            start, end = level(point), level(point - 1)
            step = jump(start, end, task.schedule.velocity)
            first = task.velocity(z, start)
            second = task.velocity(step(z, first), end)
            z = step(z, (first + second) / 2)
        return z
