"""What every kind of stock diffusers pipeline gives to the network, and takes from it.

The denoising network is a family's (`pipeline.models`); everything else of a pipeline is here: how
prompts become conditions and pixels latents, and how its own class is asked to draw.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import diffusers
import torch
from diffusers.utils.logging import disable_progress_bar
from jaxtyping import Float
from torch import Tensor

from pipeline.bundle import Manifest
from pipeline.diffusion.guidance import guidance_scale
from pipeline.models.stock.schedulers import stock_scheduler
from pipeline.randomness import RowRandom
from pipeline.registry import Registry
from pipeline.tensors import Condition, Latent

Pixels: TypeAlias = Float[Tensor, "b 3 height width"]


class StockPipeline(ABC):
    """One class of stock pipelines, opened from its components: all its parts but the network.

    Parts are loaded when they are first needed, in float32, and only from safetensors.

    Attributes:
        name: the diffusers class, as `model_index.json` has it.
        network: sub-folder of the denoising network, "unet" or "transformer".
        task: what a model hub calls its use.
        inputs: pictures that a user has to give.
        also_carry_w: other stock classes that a student told w can be opened with.
        drop_w: stock classes that open it too and silently ignore w.
        components: the directory.
        device: where its parts run.
    """

    name: ClassVar[str]
    network: ClassVar[str]
    task: ClassVar[str] = "text-to-image"
    inputs: ClassVar[tuple[str, ...]] = ()
    also_carry_w: ClassVar[tuple[str, ...]] = ()
    drop_w: ClassVar[tuple[str, ...]] = ()

    def __init__(self, components: Path, device: torch.device | None = None) -> None:
        self.components = components
        self.device = device or torch.device("cpu")

    @cached_property
    def index(self) -> dict[str, Any]:
        """`model_index.json`: the class, and the library and class of every part."""
        path = self.components / "model_index.json"
        index: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return index

    @cached_property
    def encoders(self) -> Any:
        """The pipeline itself with tokenizers and text encoders only: it encodes prompts."""
        disable_progress_bar()  # of three small files
        unused = {"vae", "safety_checker", "image_encoder"} & self.index.keys()
        opened = getattr(diffusers, self.name).from_pretrained(
            self.components,
            dtype=torch.float32,
            local_files_only=True,
            use_safetensors=True,
            **dict.fromkeys({self.network, *unused}),
        )
        return opened.to(self.device)

    @cached_property
    def autoencoder(self) -> Any:
        """The `AutoencoderKL` between pixels and latents."""
        opened = diffusers.AutoencoderKL.from_pretrained(
            self.components / "vae", local_files_only=True, use_safetensors=True
        )
        return opened.to(self.device).eval().requires_grad_(requires_grad=False)

    @cached_property
    def pixels_per_latent(self) -> int:
        """How many pixels wide and high one latent is."""
        path = self.components / "vae" / "config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        return int(2 ** (len(config["block_out_channels"]) - 1))

    @abstractmethod
    def encode(self, prompts: Sequence[str]) -> Condition:
        """What the network is conditioned on for each prompt, exactly as the pipeline computes it.

        One row a prompt, float32; keys are those that the family's `forward` reads.
        """

    @abstractmethod
    def null(self) -> Condition:
        """One row of the condition that guidance contrasts with.

        It is what the pipeline puts in place of a prompt if it is given no negative prompt.
        """

    def sizes(
        self,
        original: Sequence[tuple[int, int]],  # noqa: ARG002 (few kinds are told)
        crop: Sequence[tuple[int, int]],  # noqa: ARG002
        side: int,  # noqa: ARG002
    ) -> Condition:
        """Micro-conditioning for images of `side`; nothing for kinds without.

        Args:
            original: (height, width) that each image had.
            crop: (top, left) of what was cut out of it.
            side: height and width now.
        """
        return {}

    def beside(self, pixels: Pixels, random: RowRandom) -> Condition:  # noqa: ARG002 (inpainting)
        """What the network is given beside z_t of images that it is trained on; {} for most."""
        return {}

    @torch.no_grad()
    def to_latents(self, pixels: Pixels) -> Latent:
        """Images `[b, 3, h, w]` in [-1, 1] as the network sees them.

        That is the autoencoder's mean, shifted and scaled.
        """
        mean: Tensor = self.autoencoder.encode(pixels.to(self.device)).latent_dist.mean
        scale, shift = self._scaling
        return (mean - shift) * scale

    @torch.no_grad()
    def to_pixels(self, latents: Latent) -> Pixels:
        """The inverse of `to_latents`, as far as the autoencoder is one; not clipped."""
        scale, shift = self._scaling
        decoded = self.autoencoder.decode(
            latents.to(self.device) / scale + shift, return_dict=False
        )
        pixels: Tensor = decoded[0]
        return pixels

    @property
    def _scaling(self) -> tuple[float, float]:
        config = self.autoencoder.config
        return config.scaling_factor, config.get("shift_factor") or 0.0

    def scheduler(self, manifest: Manifest) -> dict[str, Any]:
        """`scheduler_config.json` of a scheduler that takes a student's steps exactly."""
        return stock_scheduler(manifest)

    def guides(self, manifest: Manifest) -> bool:  # noqa: ARG002 (most do)
        """Whether the class guides a teacher that is not told w."""
        return True

    def arguments(
        self, manifest: Manifest, prompts: Sequence[str], *, steps: int, w: float
    ) -> dict[str, Any]:
        """The call by which a user asks the complete pipeline for samples, as JSON.

        It is `guidance_scale = 1 + w` where the class carries w, and guidance off where w is baked
        in. Starting noise comes from a generator, which the caller adds.
        """
        _, height, width = manifest.latent_shape
        return {
            "prompt": list(prompts),
            "height": height * self.pixels_per_latent,
            "width": width * self.pixels_per_latent,
            **guided_steps(manifest, steps=steps, w=w),
            "output_type": "latent",
        }

    def pictures(self, manifest: Manifest) -> dict[str, Tensor]:  # noqa: ARG002 (inpainting only)
        """Tensors that the call needs besides, always the same; nothing for most kinds."""
        return {}

    def condition(self, manifest: Manifest, prompts: Sequence[str]) -> Condition:
        """What our own sampler is to be conditioned on to draw what `arguments` asks for."""
        count, side = len(prompts), manifest.latent_shape[1] * self.pixels_per_latent
        sizes = self.sizes([(side, side)] * count, [(0, 0)] * count, side)
        return {**self.encode(prompts), **sizes}

    def returned(self, latents: Latent) -> Tensor:
        """What the call of `arguments` returns where our own sampler returns `latents`."""
        return latents


def guided_steps(manifest: Manifest, *, steps: int, w: float) -> dict[str, Any]:
    """The part of a call that is the same for every class."""
    scale = 1.0 if manifest.baked_w is not None else guidance_scale(w)
    return {"num_inference_steps": steps, "guidance_scale": scale}


STOCK: Registry[StockPipeline] = Registry("pipeline.models.stock", StockPipeline)  # type: ignore[type-abstract]
