"""diffusers' UNet2DConditionModel, told a class or a prompt, and w as stock pipelines tell it."""

from typing import Any, ClassVar

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from pipeline.config import UNetConfig
from pipeline.models.stock.stock_network import StockFamily, dtype_of
from pipeline.tensors import Condition, Latent, PerSample

SIZE_CHANNELS = 256
"""Of each of SDXL's six numbers on size and crop, as sinusoids; SDXL's own choice."""


def embed_w(w: PerSample, size: int) -> Tensor:
    """The sinusoids of 1000 w that a student is told, float32 `[b, size]`.

    Computed digit for digit as diffusers' pipelines do it, so that a student says there what it
    says here: at frequencies this high, another order of rounding is seen in the samples. So it is
    the CPU that computes them, as there, wherever `w` is.

    Source: diffusers, `StableDiffusionPipeline.get_guidance_scale_embedding`.
    """
    half = size // 2
    spacing = torch.tensor(10000.0).log() / (half - 1)
    frequencies = torch.exp(torch.arange(half, dtype=torch.float32) * -spacing)
    angles = (w.float().cpu() * 1000.0)[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1).to(w.device)


class UNetFamily(StockFamily):
    """U-Nets that are told a class, the one after the last real one being null; or a prompt."""

    name: ClassVar[str] = "unet"
    folder: ClassVar[str] = "unet"
    network: UNetConfig

    @property
    def stock(self) -> type[Any]:
        """The network of Stable Diffusion 1.x, 2.x and XL."""
        return UNet2DConditionModel  # type: ignore[no-any-return]

    @property
    def told_by(self) -> str:
        """Size of the embedding of w that stock pipelines compute."""
        return "time_cond_proj_dim"

    def build(self) -> nn.Module:
        """A fresh network."""
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
        """The teacher's weights, plus a projection of the w embedding that starts at zero."""
        student, new = self.likeness(teacher, time_cond_proj_dim=self.network.w_embedding_dim)
        if new != ["time_embedding.cond_proj.weight"]:
            raise TypeError(f"only the w projection should be new in the student, not {new}")
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
        """One evaluation; w enters as `timestep_cond`, embedded as stock pipelines embed it."""
        dtype = dtype_of(module)
        embedded = None
        if w is not None:
            embedded = embed_w(w, self.network.w_embedding_dim).to(dtype)
        sample = z_t.to(dtype)
        if "image" in condition:
            sample = torch.cat([sample, condition["image"].to(dtype)], dim=1)
        # t = 0, where encoders start, is told as the first of the times it was trained at
        time = timestep.clamp(min=0)
        output: Tensor = module(
            sample, time, timestep_cond=embedded, return_dict=False, **_told(condition, dtype)
        )[0]
        return output

    def _blocks(self) -> dict[str, Any]:
        above = len(self.network.block_channels) - 1
        if self.network.text_channels is None:
            return {
                "down_block_types": ("DownBlock2D",) * (above + 1),
                "mid_block_type": "UNetMidBlock2D",
                "up_block_types": ("UpBlock2D",) * (above + 1),
                "num_class_embeds": self.num_classes + 1,
            }
        return {
            "down_block_types": ("CrossAttnDownBlock2D",) * above + ("DownBlock2D",),
            "mid_block_type": "UNetMidBlock2DCrossAttn",
            "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * above,
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


def _told(condition: Condition, dtype: torch.dtype) -> dict[str, Any]:
    """The network's arguments for a class, for a prompt, or for a prompt as SDXL has it."""
    if "text" not in condition:
        return {"encoder_hidden_states": None, "class_labels": condition["label"]}
    told: dict[str, Any] = {"encoder_hidden_states": condition["text"].to(dtype)}
    if "pooled" in condition:
        told["added_cond_kwargs"] = {
            "text_embeds": condition["pooled"].to(dtype),
            # sizes are numbers like timesteps: half precision would round them
            "time_ids": condition["time_ids"].float(),
        }
    return told
