"""Stable Diffusion 3: three text encoders."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch

from pipeline.bundle import Manifest
from pipeline.models.stock.stock_pipeline import StockPipeline
from pipeline.tensors import Condition


class StableDiffusion3(StockPipeline):
    """Stable Diffusion 3: three text encoders, and no input for w."""

    name: ClassVar[str] = "StableDiffusion3Pipeline"
    network: ClassVar[str] = "transformer"
    tokenizer: ClassVar[str] = "tokenizer_3"
    max_tokens: ClassVar[int | None] = 256  # default of the pipeline's `max_sequence_length`

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Condition:
        """Return `text` `[b, tokens, channels]` (CLIP, then T5) and CLIP's `pooled` `[b, d]`."""
        text, _, pooled, _ = self.encoders.encode_prompt(
            list(prompts), None, None, device=self.device, do_classifier_free_guidance=False
        )
        return {"text": text, "pooled": pooled}

    def arguments(
        self, manifest: Manifest, prompts: Sequence[str], *, steps: int, w: float
    ) -> dict[str, Any]:
        """Build the call, with times 1, ..., 1/N if the scheduler is not built for a fixed N."""
        call = super().arguments(manifest, prompts, steps=steps, w=w)
        if manifest.steps is None:
            call["sigmas"] = [1 - index / steps for index in range(steps)]
        return call
