"""diffusers' multimodal transformers of flow matching: Stable Diffusion 3's and Flux's."""

from typing import Any, ClassVar

import torch
from diffusers import FluxTransformer2DModel, SD3Transformer2DModel
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from pipeline.config import MMDiTConfig
from pipeline.diffusion.guidance import guidance_scale
from pipeline.models.stock.stock_network import StockFamily, dtype_of
from pipeline.tensors import Condition, Latent, PerSample

PATCH = 2
"""Height and width of the patches that both networks make tokens of."""


class MMDiTFamily(StockFamily):
    """Transformers that read a prompt's tokens beside those of the latents.

    Flux has an input for guidance, 1 + w; SD3 has none, so a student of it has one w baked in.

    Source: Esser et al. 2024, arXiv:2403.03206.
    """

    name: ClassVar[str] = "mmdit"
    folder: ClassVar[str] = "transformer"
    network: MMDiTConfig

    @property
    def is_flux(self) -> bool:
        """Whether it is Flux; if not, Stable Diffusion 3."""
        return self.network.kind == "flux"

    @property
    def stock(self) -> type[Any]:
        """The network of FluxPipeline or StableDiffusion3Pipeline."""
        return FluxTransformer2DModel if self.is_flux else SD3Transformer2DModel  # type: ignore[no-any-return]

    @property
    def told_by(self) -> str | None:
        """The flag of an embedding of guidance."""
        return "guidance_embeds" if self.is_flux else None

    def build(self) -> nn.Module:
        """A fresh network."""
        shared = {
            "num_layers": self.network.layers,
            "attention_head_dim": self.network.head_dim,
            "num_attention_heads": self.network.heads,
            "joint_attention_dim": self.network.text_channels,
            "pooled_projection_dim": self.network.pooled_channels,
        }
        own = self._of_flux() if self.is_flux else self._of_sd3()
        module: nn.Module = self.stock(**shared, **own)
        return module

    def student_of(
        self,
        teacher: nn.Module,
        w_range: tuple[float, float],  # noqa: ARG002 (a sinusoid takes any w)
    ) -> nn.Module:
        """A copy of the teacher; for Flux with an embedding of guidance that starts at zero.

        A Flux teacher that has the embedding keeps it as it is.
        """
        if not self.is_flux:
            return self.likeness(teacher)[0]
        student, new = self.likeness(teacher, guidance_embeds=True)
        for name in new:
            if not name.startswith("time_text_embed.guidance_embedder."):
                raise TypeError(f"only the embedding of guidance should be new, not {name}")
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
        """One evaluation, called as the stock pipeline of its kind calls it."""
        dtype = dtype_of(module)
        prompt = {
            "encoder_hidden_states": condition["text"].to(dtype),
            "pooled_projections": condition["pooled"].to(dtype),
            "return_dict": False,
        }
        if self.is_flux:
            return _ask_flux(module, z_t.to(dtype), timestep, prompt, w)
        output: Tensor = module(hidden_states=z_t.to(dtype), timestep=timestep, **prompt)[0]
        return output

    def _of_sd3(self) -> dict[str, Any]:
        channels, height, width = self.latent_shape
        return {
            "sample_size": height,
            "patch_size": PATCH,
            "in_channels": channels,
            "out_channels": channels,
            "caption_projection_dim": self.network.heads * self.network.head_dim,
            "pos_embed_max_size": max(height, width) // PATCH,
        }

    def _of_flux(self) -> dict[str, Any]:
        # rotary channels of row and column: of Flux's own 128 they are 56 each, and 16 are left
        side = 2 * (7 * self.network.head_dim // 32)
        return {
            "in_channels": self.latent_shape[0] * PATCH**2,
            "num_single_layers": self.network.layers,
            "guidance_embeds": self.network.guidance_embeds,
            "axes_dims_rope": (self.network.head_dim - 2 * side, side, side),
        }


def pack(latents: Latent) -> Tensor:
    """Patches as Flux's tokens: `[b, c, h, w]` to `[b, h w / 4, 4 c]`.

    Source: diffusers, `FluxPipeline._pack_latents`.
    """
    return pixel_unshuffle(latents, PATCH).flatten(2).mT


def unpack(tokens: Tensor, height: int, width: int) -> Latent:
    """The inverse of `pack`, for latents of that height and width."""
    rows, columns = height // PATCH, width // PATCH
    return pixel_shuffle(tokens.mT.reshape(len(tokens), -1, rows, columns), PATCH)


def token_places(height: int, width: int) -> Tensor:
    """Where each token of the latents stands: (0, row, column), `[h w / 4, 3]`.

    Source: diffusers, `FluxPipeline._prepare_latent_image_ids`.
    """
    axes = (1, height // PATCH, width // PATCH)
    return torch.cartesian_prod(*(torch.arange(float(length)) for length in axes))


def _ask_flux(
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
        # the pipeline divides by 1000 whatever T is, and the network multiplies by it
        timestep=timestep.to(z_t.dtype) / 1000,
        guidance=None if w is None else guidance_scale(w).float(),
        txt_ids=z_t.new_zeros(text.shape[1], 3),
        img_ids=token_places(height, width).to(z_t),
        **prompt,
    )[0]
    return unpack(output, height, width)
