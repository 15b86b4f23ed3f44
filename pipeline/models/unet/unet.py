"""The U-Net family: diffusers' UNet2DConditionModel, conditioned on classes or on prompts."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pipeline.config import UNetConfig
from pipeline.models.stock.stock_network import StockFamily, dtype_of
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
        from diffusers import UNet2DConditionModel

        return UNet2DConditionModel  # type: ignore[no-any-return]

    @property
    def w_config_key(self) -> str:
        """The key for the size of the w embedding that stock pipelines compute."""
        return "time_cond_proj_dim"

    def build(self) -> nn.Module:
        """Build a new network."""
        channels, height, _ = self.latent_shape
        module: nn.Module = self.stock(
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
