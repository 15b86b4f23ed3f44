"""Multimodal flow-matching transformers: the networks of Stable Diffusion 3 and Flux."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from pipeline.config import MMDiTConfig
from pipeline.diffusion.guidance import guidance_scale
from pipeline.models.stock.stock_network import StockFamily, dtype_of
from pipeline.tensors import Condition, Latent, PerSample

PATCH = 2
"""Height and width in latents of one token's patch, in both networks."""


class MMDiTFamily(StockFamily):
    """Transformers that attend jointly to prompt tokens and latent tokens.

    Flux has an input for guidance, 1 + w. SD3 has none, so its students have a baked-in w.

    Source: Esser et al. 2024, arXiv:2403.03206.
    """

    name: ClassVar[str] = "mmdit"
    folder: ClassVar[str] = "transformer"
    network: MMDiTConfig

    @property
    def is_flux(self) -> bool:
        """Whether the network is Flux; otherwise it is Stable Diffusion 3."""
        return self.network.kind == "flux"

    @property
    def stock(self) -> type[Any]:
        """The network class of FluxPipeline or StableDiffusion3Pipeline."""
        from diffusers import FluxTransformer2DModel, SD3Transformer2DModel

        return FluxTransformer2DModel if self.is_flux else SD3Transformer2DModel  # type: ignore[no-any-return]

    @property
    def w_config_key(self) -> str | None:
        """The key of the flag for a guidance embedding; None for SD3."""
        return "guidance_embeds" if self.is_flux else None

    def build(self) -> nn.Module:
        """Build a new network."""
        shared = {
            "num_layers": self.network.layers,
            "attention_head_dim": self.network.head_dim,
            "num_attention_heads": self.network.heads,
            "joint_attention_dim": self.network.text_channels,
            "pooled_projection_dim": self.network.pooled_channels,
        }
        specific = self._flux_arguments() if self.is_flux else self._sd3_arguments()
        module: nn.Module = self.stock(**shared, **specific)
        return module

    def student_of(self, teacher: nn.Module, w_range: tuple[float, float]) -> nn.Module:
        """Copy the teacher; for Flux, add a zero-initialised guidance embedding.

        The embedding of a Flux teacher that has one is kept.
        """
        if not self.is_flux:
            return super().student_of(teacher, w_range)
        student, new = self.copy_with_changes(teacher, guidance_embeds=True)
        for name in new:
            if not name.startswith("time_text_embed.guidance_embedder."):
                raise TypeError(f"expected only the guidance embedding as new, got {name}")
            if ".linear_2." in name:
                nn.init.zeros_(student.get_parameter(name))
        return student

    def forward(
        self,
        module: nn.Module,
        z_t: Latent,
        timestep: Tensor,
        condition: Condition,
        w: PerSample | None,
    ) -> Latent:
        """Evaluate the network with the arguments of its stock pipeline."""
        dtype = dtype_of(module)
        prompt = {
            "encoder_hidden_states": condition["text"].to(dtype),
            "pooled_projections": condition["pooled"].to(dtype),
            "return_dict": False,
        }
        if self.is_flux:
            return _evaluate_flux(module, z_t.to(dtype), timestep, prompt, w)
        output: Tensor = module(hidden_states=z_t.to(dtype), timestep=timestep, **prompt)[0]
        return output

    def _sd3_arguments(self) -> dict[str, Any]:
        channels, height, width = self.latent_shape
        return {
            "sample_size": height,
            "patch_size": PATCH,
            "in_channels": channels,
            "out_channels": channels,
            "caption_projection_dim": self.network.heads * self.network.head_dim,
            "pos_embed_max_size": max(height, width) // PATCH,
        }

    def _flux_arguments(self) -> dict[str, Any]:
        # rotary channels for row and column: 56 each of Flux's 128, which leaves 16
        side = 2 * (7 * self.network.head_dim // 32)
        return {
            "in_channels": self.latent_shape[0] * PATCH**2,
            "num_single_layers": self.network.layers,
            "guidance_embeds": self.network.guidance_embeds,
            "axes_dims_rope": (self.network.head_dim - 2 * side, side, side),
        }


def pack(latents: Latent) -> Tensor:
    """Pack latents into Flux's tokens: `[b, c, h, w]` to `[b, h w / 4, 4 c]`.

    Source: diffusers, `FluxPipeline._pack_latents`.
    """
    return pixel_unshuffle(latents, PATCH).flatten(2).mT


def unpack(tokens: Tensor, height: int, width: int) -> Latent:
    """Unpack tokens to latents of the given height and width; the inverse of `pack`."""
    rows, columns = height // PATCH, width // PATCH
    return pixel_shuffle(tokens.mT.reshape(len(tokens), -1, rows, columns), PATCH)


def token_positions(height: int, width: int) -> Tensor:
    """Compute the position (0, row, column) of each latent token, `[h w / 4, 3]`.

    Source: diffusers, `FluxPipeline._prepare_latent_image_ids`.
    """
    axes = (1, height // PATCH, width // PATCH)
    return torch.cartesian_prod(*(torch.arange(float(length)) for length in axes))


def _evaluate_flux(
    module: nn.Module,
    z_t: Latent,
    timestep: Tensor,
    prompt: dict[str, Any],
    w: PerSample | None,
) -> Latent:
    height, width = z_t.shape[-2:]
    text = prompt["encoder_hidden_states"]
    output: Tensor = module(
        hidden_states=pack(z_t),
        # for any T the pipeline divides by 1000 and the network multiplies by 1000
        timestep=timestep.to(z_t.dtype) / 1000,
        guidance=None if w is None else guidance_scale(w).float(),
        txt_ids=z_t.new_zeros(text.shape[1], 3),
        img_ids=token_positions(height, width).to(z_t),
        **prompt,
    )[0]
    return unpack(output, height, width)
