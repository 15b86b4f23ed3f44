"""Gaussian classes: a closed-form teacher, and a tabular student that can equal it exactly.

For data N(m, s^2 I) the optimal denoiser is E[x | z] = m + alpha s^2 (z - alpha m) /
(alpha^2 s^2 + sigma^2), affine in z. Distillation can thus be checked against a known solution.
"""

import json
import math
from pathlib import Path
from typing import ClassVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pipeline.config import GaussianConfig
from pipeline.diffusion.schedule import CosineSchedule
from pipeline.models.family import ModelFamily
from pipeline.tensors import Condition, Latent, PerSample


class GaussianTeacher(nn.Module):
    """The exact v of the classes N(means[c], std^2 I) and of their mixture, on the cosine path.

    Label `len(means)` is the null condition.
    """

    means: Tensor

    def __init__(self, config: GaussianConfig, num_timesteps: int) -> None:
        super().__init__()
        means = torch.tensor(config.means, dtype=torch.float64)
        self.register_buffer("means", means)
        self.schedule = CosineSchedule(num_timesteps)
        self.variance = config.std**2
        self.mixture = config.null == "mixture"

    def forward(self, z_t: Latent, timestep: Tensor, label: Tensor) -> Latent:
        """v = (alpha z - x) / sigma, with x = E[x | z_t, label], computed in float64."""
        z = z_t.double().flatten(1)
        level = self.schedule.at((timestep.double() + 1) / self.schedule.num_train_timesteps)
        alpha, sigma = level.alpha[:, None], level.sigma[:, None]
        is_null = label.eq(len(self.means))[:, None]
        conditional = self._velocity(
            z, self.means[label.clamp(max=len(self.means) - 1)], self.variance, alpha, sigma
        )
        return torch.where(is_null, self._null_velocity(z, alpha, sigma), conditional).reshape(
            z_t.shape
        )

    def _null_velocity(self, z: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        centre = self.means.mean(0)
        if not self.mixture:
            spread = (self.means - centre).square().mean()  # mean over classes and coordinates
            return self._velocity(z, centre, self.variance + float(spread), alpha, sigma)
        # E[x | z] of the mixture: class posteriors times the classes' own E[x | z]
        distance = (z[:, None] - alpha[:, None] * self.means).square().sum(-1)
        weight = torch.softmax(-distance / (2 * (alpha**2 * self.variance + sigma**2)), dim=1)
        each = self._velocity(z[:, None], self.means, self.variance, alpha[:, None], sigma[:, None])
        return (weight[..., None] * each).sum(1)

    @staticmethod
    def _velocity(z: Tensor, mean: Tensor, variance: float, alpha: Tensor, sigma: Tensor) -> Tensor:
        # eps = (z - alpha x) / sigma with sigma cancelled, so sigma = 0 needs no special case
        gain = (z - alpha * mean) / (alpha**2 * variance + sigma**2)
        x = mean + alpha * variance * gain
        return alpha * sigma * gain - sigma * x


class GaussianStudent(nn.Module):
    """v as a trainable table: slope and offset for each timestep, class and node of w.

    Between nodes it interpolates in w by the polynomial through all of them (Chebyshev nodes,
    barycentric form). It is exact where v is a polynomial in w of lower degree than the number of
    nodes, and it can be exact at the nodes for any v.
    """

    nodes: Tensor
    barycentric: Tensor

    def __init__(
        self,
        num_times: int,
        num_classes: int,
        size: int,
        w_range: tuple[float, float],
        w_nodes: int,
    ) -> None:
        super().__init__()
        low, high = w_range
        angle = torch.pi * torch.arange(w_nodes, dtype=torch.float64) / max(1, w_nodes - 1)
        self.register_buffer("nodes", (low + high) / 2 - (high - low) / 2 * torch.cos(angle))
        signs = torch.ones(w_nodes, dtype=torch.float64)
        signs[1::2] = -1
        if w_nodes > 1:
            signs[0] /= 2
            signs[-1] /= 2
        self.register_buffer("barycentric", signs)
        rows = num_times * num_classes
        self.num_times = num_times
        self.slope = nn.Embedding(rows, w_nodes)
        self.offset = nn.Embedding(rows, w_nodes * size)
        self.num_classes = num_classes
        self.size = size

    def row(self, timestep: Tensor, label: Tensor) -> Tensor:
        """Compute the table row of a timestep and a class; timestep -1 (t = 0) is last."""
        index = timestep.round().long() % self.num_times
        return index * self.num_classes + label

    def basis(self, w: PerSample) -> Tensor:
        """Compute the Lagrange basis of the nodes at w, `[b, nodes]`; each row sums to one."""
        difference = w.double()[:, None] - self.nodes
        at_node = difference == 0
        weights = self.barycentric / torch.where(at_node, torch.ones_like(difference), difference)
        basis = weights / weights.sum(1, keepdim=True)
        # all nodes coincide if the range is a single w: give them equal weights
        shared = at_node / at_node.sum(1, keepdim=True).clamp(min=1)
        return torch.where(at_node.any(1, keepdim=True), shared.double(), basis)

    def forward(self, z_t: Latent, timestep: Tensor, label: Tensor, w: PerSample) -> Latent:
        """v = slope z + offset, both interpolated at w."""
        row = self.row(timestep, label)
        slope, offset = self.slope(row), self.offset(row)
        basis = self.basis(w).to(slope.dtype)
        a = (slope * basis).sum(1, keepdim=True)
        b = torch.einsum("bk,bkd->bd", basis, offset.reshape(len(row), -1, self.size))
        velocity: Tensor = a * z_t.flatten(1) + b
        return velocity.reshape(z_t.shape)


class GaussianFamily(ModelFamily):
    """The closed form as a model family, for tests of the whole chain against exact results."""

    name: ClassVar[str] = "gaussian"
    folder: ClassVar[str] = "gaussian"
    network: GaussianConfig

    def build(self) -> nn.Module:
        """Build the exact teacher."""
        return GaussianTeacher(self.network, self.num_timesteps)

    def student_of(self, teacher: nn.Module, w_range: tuple[float, float]) -> nn.Module:
        """Build tables that equal the conditional teacher, from its values at z = 0 and z = 1."""
        student = self._tables(w_range)
        timesteps = torch.cat([torch.arange(self.num_timesteps), torch.tensor([-1])])
        steps = timesteps.repeat_interleave(self.num_classes)
        label = torch.arange(self.num_classes).repeat(len(timesteps))
        zero = torch.zeros(len(steps), *self.latent_shape, dtype=torch.float64)
        with torch.no_grad():
            offset = teacher(zero, steps, label).flatten(1)
            slope = (teacher(zero + 1, steps, label).flatten(1) - offset)[:, :1]
            student.slope.weight.copy_(slope.expand_as(student.slope.weight))
            student.offset.weight.copy_(offset.repeat(1, self.network.w_nodes))
        return student

    def forward(
        self,
        module: nn.Module,
        z_t: Latent,
        timestep: Tensor,
        condition: Condition,
        w: PerSample | None,
    ) -> Latent:
        """v at (z_t, timestep)."""
        w_input = () if w is None else (w,)
        output: Tensor = module(z_t, timestep, condition["label"], *w_input)
        return output

    def save(self, module: nn.Module, folder: Path) -> None:
        """Write all tensors to one safetensors file; the w nodes imply the range of w."""
        folder.mkdir(parents=True, exist_ok=True)
        state = {key: value.contiguous() for key, value in module.state_dict().items()}
        save_file(state, folder / "tables.safetensors")
        (folder / "config.json").write_text(json.dumps(self.network.model_dump(), indent=1))

    def load(self, folder: Path, *, is_w_conditioned: bool) -> nn.Module:
        """Load the tables of a student, or the closed form of the teacher."""
        state = load_file(folder / "tables.safetensors")
        module: nn.Module = self.build()
        if is_w_conditioned:
            w_range = (float(state["nodes"].min()), float(state["nodes"].max()))
            module = self._tables(w_range)
        module.load_state_dict(state)
        return module.eval()

    def _tables(self, w_range: tuple[float, float]) -> GaussianStudent:
        times, size = self.num_timesteps + 1, math.prod(self.latent_shape)
        return GaussianStudent(times, self.num_classes, size, w_range, self.network.w_nodes)
