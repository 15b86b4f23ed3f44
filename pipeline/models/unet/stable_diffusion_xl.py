"""Stable Diffusion XL: two text encoders, a pooled embedding, and size and crop of the image."""

from collections.abc import Sequence
from typing import ClassVar, TypeAlias

import torch
from torch import Tensor

from pipeline.models.stock.stock_pipeline import StockPipeline
from pipeline.tensors import Condition

_Encoded: TypeAlias = tuple[Tensor, Tensor | None, Tensor, Tensor | None]
"""Token embeddings, their null condition, pooled embedding, and its null condition."""


class StableDiffusionXL(StockPipeline):
    """SDXL: two text encoders, a pooled embedding, and size and crop conditioning."""

    name: ClassVar[str] = "StableDiffusionXLPipeline"
    network: ClassVar[str] = "unet"
    w_passing_classes: ClassVar[tuple[str, ...]] = (
        "StableDiffusionXLImg2ImgPipeline",
        "StableDiffusionXLInpaintPipeline",
        "StableDiffusionXLControlNetPipeline",
        "StableDiffusionXLAdapterPipeline",
    )
    w_ignoring_classes: ClassVar[tuple[str, ...]] = (
        "StableDiffusionXLControlNetImg2ImgPipeline",
        "StableDiffusionXLControlNetInpaintPipeline",
    )

    def encode(self, prompts: Sequence[str]) -> Condition:
        """Return `text` `[b, tokens, channels]` of both encoders, and `pooled` `[b, d]`."""
        text, _, pooled, _ = self._encoded(prompts, with_null=False)
        return {"text": text, "pooled": pooled}

    def null(self) -> Condition:
        """Return zeros, or the empty prompt if `force_zeros_for_empty_prompt` is off."""
        encoded = self._encoded([""], with_null=True)
        found = {"text": encoded[1], "pooled": encoded[3]}
        return {key: value for key, value in found.items() if value is not None}

    def sizes(
        self, original: Sequence[tuple[int, int]], crop: Sequence[tuple[int, int]], side: int
    ) -> Condition:
        """Return `time_ids` `[b, 6]`: original size, crop, target size; height or top first."""
        rows = [(*size, *corner, side, side) for size, corner in zip(original, crop, strict=True)]
        return {"time_ids": torch.tensor(rows, dtype=torch.float32, device=self.device)}

    def _scaling(self) -> tuple[float | Tensor, float | Tensor]:
        """Also apply the statistics of each latent channel, if the autoencoder has them.

        Source: diffusers, `StableDiffusionXLPipeline.__call__`.
        """
        config = self.autoencoder.config
        if config.latents_mean is None:
            return super()._scaling()
        mean, std = (
            torch.tensor(values, device=self.device)[:, None, None]
            for values in (config.latents_mean, config.latents_std)
        )
        return config.scaling_factor / std, mean

    @torch.no_grad()
    def _encoded(self, prompts: Sequence[str], *, with_null: bool) -> _Encoded:
        encoded: _Encoded = self.encoders.encode_prompt(
            list(prompts), device=self.device, do_classifier_free_guidance=with_null
        )
        return encoded
