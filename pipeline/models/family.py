"""All that differs between kinds of network, behind one interface."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from diffusers import ModelMixin
from torch import Tensor, nn

from pipeline.config import Network
from pipeline.errors import ConfigError
from pipeline.registry import Registry
from pipeline.tensors import Condition, Latent, PerSample


@dataclass(frozen=True)
class ModelFamily(ABC):
    """A kind of network: how to build, load, save and call it, and where w enters.

    Attributes:
        folder: sub-folder of a bundle for the weights; stock diffusers loads it where it has the
            class.
        network: its configuration, as the recipe gives it.
        num_classes: number of real classes, without the null condition.
        latent_shape: (channels, height, width) of what is denoised.
        num_timesteps: T of the schedule.
        null: the condition that stands for "no condition", one row; without it, the class after
            the last.
    """

    folder: ClassVar[str]

    network: Network
    num_classes: int
    latent_shape: tuple[int, int, int]
    num_timesteps: int
    null: Condition | None = None

    @abstractmethod
    def build(self) -> nn.Module:
        """A fresh network that does not know w."""

    @abstractmethod
    def student_of(self, teacher: nn.Module, w_range: tuple[float, float]) -> nn.Module:
        """A copy of `teacher` that is told w and starts as the conditional teacher, whatever w."""

    @abstractmethod
    def forward(
        self,
        module: nn.Module,
        z_t: Latent,
        timestep: Tensor,
        condition: Condition,
        w: PerSample | None,
    ) -> Latent:
        """The raw output of the network, which an engine may have wrapped.

        `w` is None for a network that does not know it.
        """

    @property
    def null_row(self) -> Condition:
        """The condition that stands for "no condition", one row of it."""
        return self.null or {"label": torch.tensor([self.num_classes])}

    def null_condition(self, condition: Condition) -> Condition:
        """`null_row` shaped like `condition`; what it does not name (sizes, masks) stays."""
        null = self.null_row
        return {
            key: null[key].to(value).expand_as(value) if key in null else value
            for key, value in condition.items()
        }

    def checkpoint_gradients(self, module: nn.Module) -> None:
        """Have `module` keep few activations and compute the others again.

        Raises:
            ConfigError: this kind of network cannot.
        """
        if not isinstance(module, ModelMixin):
            raise ConfigError(
                f"engine.gradient_checkpointing: a {type(module).__name__} cannot; set it to false"
            )
        module.enable_gradient_checkpointing()

    @abstractmethod
    def save(self, module: nn.Module, folder: Path) -> None:
        """Write configuration (JSON) and weights (safetensors) into `folder`."""

    @abstractmethod
    def load(self, folder: Path, *, knows_w: bool) -> nn.Module:
        """Read what `save` wrote, in float32, ready for evaluation."""


FAMILIES: Registry[ModelFamily] = Registry("pipeline.models", ModelFamily)  # type: ignore[type-abstract]
