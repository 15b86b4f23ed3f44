"""Stable Diffusion XL: two text encoders, a pooled embedding, and the size and crop of images."""

from collections.abc import Sequence
from typing import ClassVar, TypeAlias

import torch
from torch import Tensor

from pipeline.models.stock.stock_pipeline import StockPipeline
from pipeline.tensors import Condition

_Encoded: TypeAlias = tuple[Tensor, Tensor | None, Tensor, Tensor | None]
"""Tokens, those of the null condition, pooled embedding, and that of the null condition."""


class StableDiffusionXL(StockPipeline):
    """Text to image."""

    name: ClassVar[str] = "StableDiffusionXLPipeline"
    network: ClassVar[str] = "unet"
    also_carry_w: ClassVar[tuple[str, ...]] = (
        "StableDiffusionXLImg2ImgPipeline",
        "StableDiffusionXLInpaintPipeline",
        "StableDiffusionXLControlNetPipeline",
        "StableDiffusionXLAdapterPipeline",
    )
    drop_w: ClassVar[tuple[str, ...]] = (
        "StableDiffusionXLControlNetImg2ImgPipeline",
        "StableDiffusionXLControlNetInpaintPipeline",
    )

    def encode(self, prompts: Sequence[str]) -> Condition:
        """`text` `[b, tokens, channels]` of both encoders, `pooled` `[b, d]` of the second."""
        text, _, pooled, _ = self._encoded(prompts, with_null=False)
        return {"text": text, "pooled": pooled}

    def null(self) -> Condition:
        """Zeros, or the empty prompt where `force_zeros_for_empty_prompt` is off."""
        encoded = self._encoded([""], with_null=True)
        found = {"text": encoded[1], "pooled": encoded[3]}
        return {key: value for key, value in found.items() if value is not None}

    def sizes(
        self, original: Sequence[tuple[int, int]], crop: Sequence[tuple[int, int]], side: int
    ) -> Condition:
        """`time_ids` `[b, 6]`: original size, crop and target size, height or top first."""
        rows = [(*size, *corner, side, side) for size, corner in zip(original, crop, strict=True)]
        return {"time_ids": torch.tensor(rows, dtype=torch.float32, device=self.device)}

    @torch.no_grad()
    def _encoded(self, prompts: Sequence[str], *, with_null: bool) -> _Encoded:
        encoded: _Encoded = self.encoders.encode_prompt(
            list(prompts), device=self.device, do_classifier_free_guidance=with_null
        )
        return encoded
