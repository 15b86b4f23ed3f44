"""Flux: CLIP and T5, flow matching in packed latents, and a network told `guidance`."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from diffusers import FluxPipeline
from torch import Tensor

from pipeline.bundle import Manifest
from pipeline.models.stock.schedulers import flux_scheduler
from pipeline.models.stock.stock_pipeline import StockPipeline
from pipeline.tensors import Condition, Latent


class Flux(StockPipeline):
    """Text to image."""

    name: ClassVar[str] = "FluxPipeline"
    network: ClassVar[str] = "transformer"
    also_carry_w: ClassVar[tuple[str, ...]] = ("FluxImg2ImgPipeline", "FluxInpaintPipeline")

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Condition:
        """`text` `[b, tokens, channels]` of T5 and `pooled` `[b, d]` of CLIP."""
        text, pooled, _ = self.encoders.encode_prompt(list(prompts), None, device=self.device)
        return {"text": text, "pooled": pooled}

    def null(self) -> Condition:
        """The empty prompt: the pipeline has no contrast of its own, and true guidance takes it."""
        return self.encode([""])

    def scheduler(self, manifest: Manifest) -> dict[str, Any]:
        """Euler, with the shift fixed that a teacher's scheduler takes from the image's size."""
        return flux_scheduler(manifest)

    def guides(self, manifest: Manifest) -> bool:  # noqa: ARG002
        """Not by `guidance_scale`, which is what a network with an input for it is told."""
        return False

    def returned(self, latents: Latent) -> Tensor:
        """Latents in patches of 2 x 2, `[b, h w / 4, 4 channels]`."""
        packed: Tensor = FluxPipeline._pack_latents(latents, *latents.shape)
        return packed
