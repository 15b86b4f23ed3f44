"""Stable Diffusion 1.x and 2.x: one text encoder."""

from collections.abc import Sequence
from typing import ClassVar

import torch

from pipeline.models.stock.stock_pipeline import StockPipeline
from pipeline.tensors import Condition


class StableDiffusion(StockPipeline):
    """Stable Diffusion 1.x and 2.x: one text encoder."""

    name: ClassVar[str] = "StableDiffusionPipeline"
    network: ClassVar[str] = "unet"
    w_passing_classes: ClassVar[tuple[str, ...]] = (
        "StableDiffusionImg2ImgPipeline",
        "StableDiffusionInpaintPipeline",
        "StableDiffusionControlNetPipeline",
        "StableDiffusionAdapterPipeline",
    )
    w_ignoring_classes: ClassVar[tuple[str, ...]] = (
        "StableDiffusionControlNetImg2ImgPipeline",
        "StableDiffusionControlNetInpaintPipeline",
        "AnimateDiffPipeline",
    )

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Condition:
        """Return `text` `[b, tokens, channels]`: the last hidden state of the text encoder."""
        text, _ = self.encoders.encode_prompt(
            list(prompts), self.device, 1, do_classifier_free_guidance=False
        )
        return {"text": text}
