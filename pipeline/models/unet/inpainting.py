"""Stable Diffusion for inpainting: the U-Net is given a mask and the masked picture beside z_t."""

from collections.abc import Sequence
from typing import ClassVar, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.bundle import Manifest
from pipeline.models.stock.stock_pipeline import Pixels
from pipeline.models.unet.stable_diffusion import StableDiffusion
from pipeline.randomness import RowRandom
from pipeline.tensors import Condition, PerSample

Masks: TypeAlias = Float[Tensor, "b 1 height width"]
"""1 where to paint, 0 where the picture is kept."""

_LEAST, _MOST = 0.25, 0.75  # of a side of the picture, hidden


class Inpainting(StableDiffusion):
    """Text and a masked picture to a picture."""

    name: ClassVar[str] = "StableDiffusionInpaintPipeline"
    network: ClassVar[str] = "unet"
    task: ClassVar[str] = "image-to-image"
    inputs: ClassVar[tuple[str, ...]] = ("image", "mask_image")
    also_carry_w: ClassVar[tuple[str, ...]] = ()
    drop_w: ClassVar[tuple[str, ...]] = ("StableDiffusionControlNetInpaintPipeline",)

    @torch.no_grad()
    def beside(self, pixels: Pixels, random: RowRandom) -> Condition:
        """`image`: a rectangle of each picture is hidden, a quarter to three quarters a side."""
        return self.around(pixels, draw_masks(random, *pixels.shape[2:]).to(pixels))

    @torch.no_grad()
    def around(self, pixels: Pixels, mask: Masks) -> Condition:
        """`image` `[b, 1 + channels, h, w]`: the mask, then the latents of what it leaves.

        The mask is brought to the size of latents, and what it hides made grey, as the pipeline
        does both.
        """
        left = self.to_latents(pixels * (mask < 0.5))
        small = torch.nn.functional.interpolate(mask, size=left.shape[2:]).to(left)
        return {"image": torch.cat([small, left], dim=1)}

    def pictures(self, manifest: Manifest) -> dict[str, Tensor]:
        """A ramp with its middle masked, and the latents of what is left.

        The latents are given too, because the pipeline would sample the autoencoder's posterior.
        """
        _, height, width = (size * self.pixels_per_latent for size in manifest.latent_shape)
        ramp = torch.linspace(0, 1, height)[:, None] * torch.linspace(0, 1, width)
        mask = torch.zeros(1, 1, height, width)
        mask[..., height // 4 : height // 2, width // 4 : width // 2] = 1
        image = ramp.expand(1, 3, height, width).contiguous()
        left = (2 * image - 1) * (mask < 0.5)
        return {
            "image": image,
            "mask_image": mask,
            "masked_image_latents": self.to_latents(left).cpu(),
        }

    def condition(self, manifest: Manifest, prompts: Sequence[str]) -> Condition:
        """Also `image` `[b, 1 + channels, h, w]`: mask, then masked latents.

        The mask is 1 where to paint, and is brought to the size of latents as the pipeline does.
        """
        pictures = self.pictures(manifest)
        mask = torch.nn.functional.interpolate(
            pictures["mask_image"], size=manifest.latent_shape[1:]
        )
        beside = torch.cat([mask, pictures["masked_image_latents"]], dim=1).to(self.device)
        image = beside.expand(len(prompts), -1, -1, -1)
        return {**super().condition(manifest, prompts), "image": image}


def draw_masks(random: RowRandom, height: int, width: int) -> Masks:
    """A rectangle of each picture, a quarter to three quarters of either side, float32."""
    draws = random.uniform("masks", 4)
    shares = _LEAST + (_MOST - _LEAST) * draws[:, :2]
    first = (1 - shares) * draws[:, 2:]
    rows = _inside(first[:, 0], shares[:, 0], height)
    columns = _inside(first[:, 1], shares[:, 1], width)
    return (rows[:, None, :, None] & columns[:, None, None, :]).float()


def _inside(first: PerSample, share: PerSample, size: int) -> Tensor:
    """Which of `size` pixels lie in [first, first + share) of the side, `[b, size]`."""
    middle = (torch.arange(size, device=first.device) + 0.5) / size
    return (middle >= first[:, None]) & (middle < (first + share)[:, None])
