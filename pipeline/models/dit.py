"""DiT: diffusers' class-conditional transformer on latents, and its pipeline."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from diffusers import DiTTransformer2DModel
from diffusers.models.embeddings import LabelEmbedding
from torch import Tensor, nn

from pipeline.bundle import Manifest
from pipeline.config import DiTConfig
from pipeline.errors import ConfigError
from pipeline.models.stock.stock_network import StockFamily, dtype_of
from pipeline.models.stock.stock_pipeline import StockPipeline, guided_steps
from pipeline.tensors import Condition, Latent, PerSample


class DiTFamily(StockFamily):
    """Class-conditional transformers; the index after the last class is the null condition.

    The network has no input for w, so a student has a baked-in w.

    Source: Peebles & Xie 2022, arXiv:2212.09748.
    """

    name: ClassVar[str] = "dit"
    folder: ClassVar[str] = "transformer"
    network: DiTConfig

    @property
    def stock(self) -> type[Any]:
        """The network class of DiTPipeline."""
        return DiTTransformer2DModel  # type: ignore[no-any-return]

    def disable_label_dropout(self, module: nn.Module) -> nn.Module:
        """Disable label dropout, because the training method drops labels itself.

        diffusers drops labels in training mode, in each layer independently. The embedding row of
        the null class is kept.
        """
        for part in module.modules():
            if isinstance(part, LabelEmbedding):
                part.dropout_prob = 0.0
        return module

    def build(self) -> nn.Module:
        """Build a new network."""
        channels, height, _ = self.latent_shape
        return self.disable_label_dropout(
            DiTTransformer2DModel(
                num_attention_heads=self.network.heads,
                attention_head_dim=self.network.head_dim,
                in_channels=channels,
                out_channels=channels,  # the default, but DiTPipeline reads it from the config
                num_layers=self.network.layers,
                sample_size=height,
                patch_size=self.network.patch,
                num_embeds_ada_norm=self.num_classes,
            )
        )

    def forward(
        self,
        module: nn.Module,
        z_t: Latent,
        timestep: Tensor,
        condition: Condition,
        w: PerSample | None,  # noqa: ARG002 (always None)
    ) -> Latent:
        """Evaluate the network; a learned variance (second half of the output) is dropped."""
        output: Tensor = module(
            z_t.to(dtype_of(module)),
            timestep=timestep.round().long().clamp(min=0),  # t = 0, where encoders start
            class_labels=condition["label"],
            return_dict=False,
        )[0]
        return output[:, : self.latent_shape[0]]


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
