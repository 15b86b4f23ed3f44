"""The model-family interface: everything that differs between network architectures."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from pipeline.config import Network
from pipeline.errors import ConfigError
from pipeline.registry import Registry
from pipeline.shapes import LatentShape
from pipeline.tensors import Condition, Latent, PerSample


@dataclass(frozen=True)
class ModelFamily(ABC):
    """An architecture: how to build, load, save and call its networks, and where w enters.

    Attributes:
        folder: sub-folder of a bundle for the weights; loadable by stock diffusers if it has the
            class.
        network: network configuration from the recipe.
        num_classes: number of real classes, without the null condition.
        latent_shape: (channels, axis, ...) of the denoised samples.
        num_timesteps: T of the schedule.
        null: the null condition, one row; None for the class index after the last class.
    """

    folder: ClassVar[str]

    network: Network
    num_classes: int
    latent_shape: LatentShape
    num_timesteps: int
    null: Condition | None = None

    @abstractmethod
    def build(self) -> nn.Module:
        """Build a new network without a w input."""

    @abstractmethod
    def student_of(self, teacher: nn.Module, w_range: tuple[float, float]) -> nn.Module:
        """Copy `teacher` with a w input; at first its output equals the teacher's for any w."""

    @abstractmethod
    def forward(
        self,
        module: nn.Module,
        z_t: Latent,
        timestep: Tensor,
        condition: Condition,
        w: PerSample | None,
    ) -> Latent:
        """Compute the raw output of the network, which an engine may have wrapped.

        `w` is None for a network that is not w-conditioned.
        """

    @property
    def null_row(self) -> Condition:
        """The null condition, one row."""
        return self.null or {"label": torch.tensor([self.num_classes])}

    def null_condition(self, condition: Condition) -> Condition:
        """Expand `null_row` to the shape of `condition`; other keys (sizes, masks) are kept."""
        null = self.null_row
        return {
            key: null[key].to(value).expand_as(value) if key in null else value
            for key, value in condition.items()
        }

    def checkpoint_gradients(self, module: nn.Module) -> None:
        """Enable gradient checkpointing: recompute activations instead of storing them.

        Raises:
            ConfigError: the network does not support it.
        """
        enable = getattr(module, "enable_gradient_checkpointing", None)
        if enable is None:
            raise ConfigError(
                "engine.gradient_checkpointing: not supported by "
                f"{type(module).__name__}; set it to false"
            )
        enable()

    @abstractmethod
    def save(self, module: nn.Module, folder: Path) -> None:
        """Write configuration (JSON) and weights (safetensors) into `folder`."""

    @abstractmethod
    def load(self, folder: Path, *, is_w_conditioned: bool) -> nn.Module:
        """Load a network written by `save`, in float32 and evaluation mode."""


FAMILIES: Registry[ModelFamily] = Registry(
    "pipeline.models",
    ModelFamily,  # type: ignore[type-abstract]
    "model family",
    entry_points="stepfold.families",
)
