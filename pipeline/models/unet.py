"""The U-Net family: diffusers' UNet2DConditionModel, and the stock pipelines around it.

The pipelines are Stable Diffusion 1.x and 2.x, its inpainting, and Stable Diffusion XL.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, TypeAlias

import torch
from diffusers import UNet2DConditionModel
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from pipeline.bundle import Manifest
from pipeline.config import UNetConfig
from pipeline.models.stock.stock_network import StockFamily, dtype_of
from pipeline.models.stock.stock_pipeline import Pixels, StockPipeline
from pipeline.randomness import RowRandom
from pipeline.tensors import Condition, Latent, PerSample

SIZE_CHANNELS = 256
"""Sinusoidal channels for each of SDXL's six size and crop values, as in SDXL."""


def embed_w(w: PerSample, size: int) -> Tensor:
    """Embed w as sinusoids of 1000 w, float32 `[b, size]`.

    Bitwise equal to diffusers' pipelines, so that a student gives the same samples in both: at
    these frequencies a different rounding is visible in the samples. diffusers computes them on the
    CPU, so this does too, on whichever device `w` is.

    Source: diffusers, `StableDiffusionPipeline.get_guidance_scale_embedding`.
    """
    half = size // 2
    spacing = torch.tensor(10000.0).log() / (half - 1)
    frequencies = torch.exp(torch.arange(half, dtype=torch.float32) * -spacing)
    angles = (w.float().cpu() * 1000.0)[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1).to(w.device)


class UNetFamily(StockFamily):
    """U-Nets conditioned on a class (the index after the last class is null) or on a prompt."""

    name: ClassVar[str] = "unet"
    folder: ClassVar[str] = "unet"
    network: UNetConfig

    @property
    def stock(self) -> type[Any]:
        """The network class of Stable Diffusion 1.x, 2.x and XL."""
        return UNet2DConditionModel  # type: ignore[no-any-return]

    @property
    def w_config_key(self) -> str:
        """The key for the size of the w embedding that stock pipelines compute."""
        return "time_cond_proj_dim"

    def build(self) -> nn.Module:
        """Build a new network."""
        channels, height, _ = self.latent_shape
        module: nn.Module = UNet2DConditionModel(
            sample_size=height,
            in_channels=channels + self.network.image_channels,
            out_channels=channels,
            block_out_channels=self.network.block_channels,
            layers_per_block=self.network.layers_per_block,
            norm_num_groups=self.network.norm_groups,
            **self._blocks(),
            **self._size_embedding(),
        )
        return module

    def student_of(
        self,
        teacher: nn.Module,
        w_range: tuple[float, float],  # noqa: ARG002 (a sinusoid takes any w)
    ) -> nn.Module:
        """Copy the teacher and add a zero-initialised projection of the w embedding."""
        student, new = self.copy_with_changes(
            teacher, time_cond_proj_dim=self.network.w_embedding_dim
        )
        if new != ["time_embedding.cond_proj.weight"]:
            raise TypeError(f"expected only the w projection as a new parameter, got {new}")
        nn.init.zeros_(student.get_parameter("time_embedding.cond_proj.weight"))
        return student

    def forward(
        self,
        module: nn.Module,
        z_t: Latent,
        timestep: Tensor,
        condition: Condition,
        w: PerSample | None,
    ) -> Latent:
        """Evaluate the network; w enters as `timestep_cond`, embedded as in stock pipelines."""
        dtype = dtype_of(module)
        embedded = None
        if w is not None:
            embedded = embed_w(w, self.network.w_embedding_dim).to(dtype)
        sample = z_t.to(dtype)
        if "image" in condition:
            sample = torch.cat([sample, condition["image"].to(dtype)], dim=1)
        # encoders start at t = 0, which training never saw: use the first trained timestep
        time = timestep.clamp(min=0)
        output: Tensor = module(
            sample,
            time,
            timestep_cond=embedded,
            return_dict=False,
            **_condition_arguments(condition, dtype),
        )[0]
        return output

    def _blocks(self) -> dict[str, Any]:
        attention_blocks = len(self.network.block_channels) - 1
        if self.network.text_channels is None:
            return {
                "down_block_types": ("DownBlock2D",) * (attention_blocks + 1),
                "mid_block_type": "UNetMidBlock2D",
                "up_block_types": ("UpBlock2D",) * (attention_blocks + 1),
                "num_class_embeds": self.num_classes + 1,
            }
        return {
            "down_block_types": ("CrossAttnDownBlock2D",) * attention_blocks + ("DownBlock2D",),
            "mid_block_type": "UNetMidBlock2DCrossAttn",
            "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * attention_blocks,
            "cross_attention_dim": self.network.text_channels,
            # diffusers' name for the number of heads
            "attention_head_dim": self.network.attention_heads,
        }

    def _size_embedding(self) -> dict[str, Any]:
        if self.network.pooled_channels is None:
            return {}
        return {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": SIZE_CHANNELS,
            "projection_class_embeddings_input_dim": self.network.pooled_channels
            + 6 * SIZE_CHANNELS,
        }


def _condition_arguments(condition: Condition, dtype: torch.dtype) -> dict[str, Any]:
    """Build the network's arguments for a class, a prompt, or a prompt with SDXL's extras."""
    if "text" not in condition:
        return {"encoder_hidden_states": None, "class_labels": condition["label"]}
    arguments: dict[str, Any] = {"encoder_hidden_states": condition["text"].to(dtype)}
    if "pooled" in condition:
        arguments["added_cond_kwargs"] = {
            "text_embeds": condition["pooled"].to(dtype),
            # sizes are large integers, which half precision would round
            "time_ids": condition["time_ids"].float(),
        }
    return arguments


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

    @torch.no_grad()
    def _encoded(self, prompts: Sequence[str], *, with_null: bool) -> _Encoded:
        encoded: _Encoded = self.encoders.encode_prompt(
            list(prompts), device=self.device, do_classifier_free_guidance=with_null
        )
        return encoded


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
