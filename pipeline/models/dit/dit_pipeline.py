"""The stock pipeline of DiT."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from pipeline.bundle import Manifest
from pipeline.errors import ConfigError
from pipeline.models.stock.stock_pipeline import StockPipeline, guided_steps
from pipeline.tensors import Condition, Latent

_NULL_CLASS = 1000


class DiT(StockPipeline):
    """Class to image; a prompt is the name of a class, or its number."""

    name: ClassVar[str] = "DiTPipeline"
    network: ClassVar[str] = "transformer"
    task: ClassVar[str] = "unconditional-image-generation"

    def encode(self, prompts: Sequence[str]) -> Condition:
        """Return `label`, int64 `[b]`."""
        return {"label": torch.tensor(self._numbers(prompts), device=self.device)}

    def null(self) -> Condition:
        """Return the class index after ImageNet's last, a constant of the pipeline."""
        return {"label": torch.tensor([_NULL_CLASS], device=self.device)}

    def guides(self, manifest: Manifest) -> bool:
        """Whether the network has ImageNet's classes: the pipeline's null class is a constant."""
        return manifest.num_classes == _NULL_CLASS

    def arguments(
        self, manifest: Manifest, prompts: Sequence[str], *, steps: int, w: float
    ) -> dict[str, Any]:
        """Build the call's arguments; this class returns pixels, not latents."""
        return {
            "class_labels": self._numbers(prompts),
            **guided_steps(manifest, steps=steps, w=w),
            "output_type": "pt",
        }

    def returned(self, latents: Latent) -> Tensor:
        """Decode latents to pixels `[b, h, w, 3]` in [0, 1]."""
        return (self.to_pixels(latents) / 2 + 0.5).clamp(0, 1)

    def _numbers(self, prompts: Sequence[str]) -> list[int]:
        return [int(prompt) if prompt.isdecimal() else self._number(prompt) for prompt in prompts]

    def _number(self, name: str) -> int:
        labels: dict[str, int] = self.encoders.labels
        if name not in labels:
            raise ConfigError(
                f"{self.components / 'model_index.json'}: no class {name!r} in id2label; use the "
                "class's number"
            )
        return labels[name]
