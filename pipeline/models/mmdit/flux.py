"""Flux: two text encoders, and guidance as an input of the network."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from pipeline.bundle import Manifest
from pipeline.models.mmdit.mmdit import pack
from pipeline.models.stock.schedulers import flux_scheduler
from pipeline.models.stock.stock_pipeline import StockPipeline
from pipeline.tensors import Condition, Latent


class Flux(StockPipeline):
    """Flux: CLIP and T5, packed latents, and a network with a `guidance` input."""

    name: ClassVar[str] = "FluxPipeline"
    network: ClassVar[str] = "transformer"
    tokenizer: ClassVar[str] = "tokenizer_2"
    max_tokens: ClassVar[int | None] = 512  # default of the pipeline's `max_sequence_length`
    w_passing_classes: ClassVar[tuple[str, ...]] = ("FluxImg2ImgPipeline", "FluxInpaintPipeline")

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Condition:
        """Return `text` `[b, tokens, channels]` of T5 and `pooled` `[b, d]` of CLIP."""
        text, pooled, _ = self.encoders.encode_prompt(list(prompts), None, device=self.device)
        return {"text": text, "pooled": pooled}

    def scheduler(self, manifest: Manifest) -> dict[str, Any]:
        """Build an Euler scheduler with the fixed shift of the teacher's image size."""
        return flux_scheduler(manifest)

    def guides(self, manifest: Manifest) -> bool:  # noqa: ARG002
        """Return False: `guidance_scale` is a network input in this class, not guidance."""
        return False

    def returned(self, latents: Latent) -> Tensor:
        """Pack latents in patches of 2 x 2, `[b, h w / 4, 4 channels]`."""
        return pack(latents)
