"""Stable Diffusion's inpainting: a mask and the masked image beside the latents."""

from collections.abc import Sequence
from typing import ClassVar, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from pipeline.bundle import Manifest
from pipeline.models.stock.stock_pipeline import Pixels
from pipeline.models.unet.stable_diffusion import StableDiffusion
from pipeline.randomness import RowRandom
from pipeline.tensors import Condition, PerSample

Masks: TypeAlias = Float[Tensor, "b 1 height width"]
"""1 where to paint, 0 where the image is kept."""

_MIN_SIDE, _MAX_SIDE = 0.25, 0.75  # masked fraction of an image side


class Inpainting(StableDiffusion):
    """Stable Diffusion inpainting: mask and masked image are extra input channels of the U-Net."""

    name: ClassVar[str] = "StableDiffusionInpaintPipeline"
    network: ClassVar[str] = "unet"
    task: ClassVar[str] = "image-to-image"
    inputs: ClassVar[tuple[str, ...]] = ("image", "mask_image")
    w_passing_classes: ClassVar[tuple[str, ...]] = ()
    w_ignoring_classes: ClassVar[tuple[str, ...]] = ("StableDiffusionControlNetInpaintPipeline",)

    @torch.no_grad()
    def extra_inputs(self, pixels: Pixels, random: RowRandom) -> Condition:
        """Return `image` with a random rectangle masked, 1/4 to 3/4 of each side."""
        return self.around(pixels, draw_masks(random, *pixels.shape[2:]).to(pixels))

    @torch.no_grad()
    def around(self, pixels: Pixels, mask: Masks) -> Condition:
        """Return `image` `[b, 1 + channels, h, w]`: the mask, then the masked image's latents.

        As in the stock pipeline, the mask is resized to the latents and the masked part is grey.
        """
        latents = self.to_latents(pixels * (mask < 0.5))
        small = interpolate(mask, size=latents.shape[2:]).to(latents)
        return {"image": torch.cat([small, latents], dim=1)}

    def pictures(self, manifest: Manifest) -> dict[str, Tensor]:
        """Return a ramp image, a mask of its middle, and the masked image's latents.

        The latents are passed because the pipeline would sample the autoencoder's posterior.
        """
        _, height, width = (size * self.pixels_per_latent for size in manifest.latent_shape)
        ramp = torch.linspace(0, 1, height)[:, None] * torch.linspace(0, 1, width)
        mask = torch.zeros(1, 1, height, width)
        mask[..., height // 4 : height // 2, width // 4 : width // 2] = 1
        image = ramp.expand(1, 3, height, width).contiguous()
        masked = (2 * image - 1) * (mask < 0.5)
        return {
            "image": image,
            "mask_image": mask,
            "masked_image_latents": self.to_latents(masked).cpu(),
        }

    def condition(self, manifest: Manifest, prompts: Sequence[str]) -> Condition:
        """Also return `image` of `around`, for the image and mask of `pictures`."""
        pictures = self.pictures(manifest)
        image = self.around(2 * pictures["image"] - 1, pictures["mask_image"])["image"]
        expanded = image.expand(len(prompts), -1, -1, -1)
        return {**super().condition(manifest, prompts), "image": expanded}


def draw_masks(random: RowRandom, height: int, width: int) -> Masks:
    """Draw one rectangle per image, 1/4 to 3/4 of each side, float32 `[b, 1, height, width]`."""
    draws = random.uniform("masks", 4)
    sides = _MIN_SIDE + (_MAX_SIDE - _MIN_SIDE) * draws[:, :2]
    first = (1 - sides) * draws[:, 2:]
    rows = _inside(first[:, 0], sides[:, 0], height)
    columns = _inside(first[:, 1], sides[:, 1], width)
    return (rows[:, None, :, None] & columns[:, None, None, :]).float()


def _inside(first: PerSample, share: PerSample, size: int) -> Tensor:
    """Mark the pixels whose centres lie in [first, first + share) of the side, `[b, size]`."""
    middle = (torch.arange(size, device=first.device) + 0.5) / size
    return (middle >= first[:, None]) & (middle < (first + share)[:, None])
