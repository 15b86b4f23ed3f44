"""A small network on points, as a family of its own."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import torch
from pydantic import PositiveInt
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pipeline.config import NetworkConfig
from pipeline.models.family import ModelFamily
from pipeline.tensors import Condition, Latent, PerSample

WEIGHTS = "weights.safetensors"


class PointsConfig(NetworkConfig):
    """Settings of the network."""

    family: Literal["points"]

    width: PositiveInt = 16
    """Hidden units."""

    @property
    def draws_pixels(self) -> bool:
        """Samples are points of the plane, which are not clipped."""
        return False


class PointNetwork(nn.Module):
    """Two layers on a point, its time and its class; a student also has an input for w."""

    def __init__(self, size: int, classes: int, width: int, *, takes_w: bool) -> None:
        super().__init__()
        self.first = nn.Linear(size + 2, width)
        self.label = nn.Embedding(classes + 1, width)
        self.last = nn.Linear(width, size)
        self.guidance = nn.Linear(1, width, bias=False) if takes_w else None
        if self.guidance is not None:
            nn.init.zeros_(self.guidance.weight)

    def forward(self, z: Tensor, time: Tensor, label: Tensor, w: Tensor | None = None) -> Tensor:
        angle = math.pi / 2 * time.to(z)[:, None]
        hidden = self.first(torch.cat([z.flatten(1), angle.sin(), angle.cos()], 1))
        hidden = hidden + self.label(label)
        if self.guidance is not None and w is not None:
            hidden = hidden + self.guidance(w.to(z)[:, None])
        return self.last(nn.functional.silu(hidden)).reshape(z.shape)


@dataclass(frozen=True)
class PointsFamily(ModelFamily):
    """How the network is built, called, saved and loaded."""

    name: ClassVar[str] = "points"
    folder: ClassVar[str] = "points"
    network: PointsConfig

    def build(self) -> nn.Module:
        """Build a teacher."""
        return self._network(takes_w=False)

    def student_of(self, teacher: nn.Module, w_range: tuple[float, float]) -> nn.Module:
        """Copy the teacher; the new input has no effect at first."""
        student = self._network(takes_w=True)
        student.load_state_dict(teacher.state_dict(), strict=False)
        return student

    def forward(
        self,
        module: nn.Module,
        z_t: Latent,
        timestep: Tensor,
        condition: Condition,
        w: PerSample | None,
    ) -> Latent:
        """Call the network."""
        time = (timestep + 1) / self.num_timesteps
        output: Tensor = module(z_t, time, condition["label"], w)
        return output

    def save(self, module: nn.Module, folder: Path) -> None:
        """Write the weights."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file(module.state_dict(), folder / WEIGHTS)

    def load(self, folder: Path, *, is_w_conditioned: bool) -> nn.Module:
        """Read the weights."""
        module = self._network(takes_w=is_w_conditioned)
        module.load_state_dict(load_file(folder / WEIGHTS))
        return module.eval()

    def _network(self, *, takes_w: bool) -> nn.Module:
        size = math.prod(self.latent_shape)
        return PointNetwork(size, self.num_classes, self.network.width, takes_w=takes_w)
