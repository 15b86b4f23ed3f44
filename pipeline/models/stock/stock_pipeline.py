"""The interface of stock diffusers pipelines around the denoising network.

The network belongs to a model family (`pipeline.models`). Here are the other parts of a pipeline:
prompt encoding, the autoencoder, and the call arguments of the pipeline class.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import torch
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
    """A stock pipeline class, opened from its components: all its parts except the network.

    Parts are loaded on first use, in float32, and only from safetensors.

    Attributes:
        name: the diffusers class, as in `model_index.json`.
        network: sub-folder of the denoising network, "unet" or "transformer".
        task: task name on a model hub.
        inputs: image arguments that the user must pass.
        tokenizer: sub-folder of the tokenizer whose text encoder reads most of a prompt.
        max_tokens: tokens that it reads; None for those of the tokenizer's own configuration.
        w_passing_classes: other stock classes that pass w to a w-conditioned student.
        w_ignoring_classes: stock classes that load the student but silently ignore w.
        components: the directory of the parts.
        device: device of the parts.
    """

    name: ClassVar[str]
    network: ClassVar[str]
    task: ClassVar[str] = "text-to-image"
    inputs: ClassVar[tuple[str, ...]] = ()
    tokenizer: ClassVar[str] = "tokenizer"
    max_tokens: ClassVar[int | None] = None
    w_passing_classes: ClassVar[tuple[str, ...]] = ()
    w_ignoring_classes: ClassVar[tuple[str, ...]] = ()

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
        """The pipeline with tokenizers and text encoders only, to encode prompts."""
        import diffusers
        from diffusers.utils.logging import disable_progress_bar

        disable_progress_bar()  # not useful for three small files
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
        from diffusers import AutoencoderKL

        opened = AutoencoderKL.from_pretrained(
            self.components / "vae", local_files_only=True, use_safetensors=True
        )
        return opened.to(self.device).eval().requires_grad_(requires_grad=False)

    @cached_property
    def pixels_per_latent(self) -> int:
        """Pixels per latent along one side."""
        path = self.components / "vae" / "config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        return int(2 ** (len(config["block_out_channels"]) - 1))

    @abstractmethod
    def encode(self, prompts: Sequence[str]) -> Condition:
        """Compute the condition of each prompt, exactly as the stock pipeline does.

        One row per prompt, float32; the keys are those that the family's `forward` reads.
        """

    def null(self) -> Condition:
        """Compute the null condition of guidance, one row; by default the empty prompt's.

        It is the pipeline's default if no negative prompt is passed.
        """
        return self.encode([""])

    def sizes(
        self,
        original: Sequence[tuple[int, int]],  # noqa: ARG002 (few classes use sizes)
        crop: Sequence[tuple[int, int]],  # noqa: ARG002
        side: int,  # noqa: ARG002
    ) -> Condition:
        """Compute micro-conditioning for images of `side`; {} for classes without it.

        Args:
            original: original (height, width) of each image, in pixels.
            crop: (top, left) corner of its crop, in pixels.
            side: current height and width, in pixels.
        """
        return {}

    def extra_inputs(self, pixels: Pixels, random: RowRandom) -> Condition:  # noqa: ARG002 (inpainting)
        """Compute extra network inputs for training images; {} for most classes."""
        return {}

    @torch.no_grad()
    def to_latents(self, pixels: Pixels) -> Latent:
        """Encode images `[b, 3, h, w]` in [-1, 1] to the autoencoder's mean, shifted and scaled."""
        mean: Tensor = self.autoencoder.encode(pixels.to(self.device)).latent_dist.mean
        scale, shift = self._scaling()
        return (mean - shift) * scale

    @torch.no_grad()
    def to_pixels(self, latents: Latent) -> Pixels:
        """Decode latents to images, the approximate inverse of `to_latents`; not clipped."""
        scale, shift = self._scaling()
        decoded = self.autoencoder.decode(
            latents.to(self.device) / scale + shift, return_dict=False
        )
        pixels: Tensor = decoded[0]
        return pixels

    def _scaling(self) -> tuple[float | Tensor, float | Tensor]:
        """Return factor and shift between the autoencoder's latents and the network's."""
        config = self.autoencoder.config
        return config.scaling_factor, config.get("shift_factor") or 0.0

    def scheduler(self, manifest: Manifest) -> dict[str, Any]:
        """Build the `scheduler_config.json` of a scheduler that takes a student's exact steps."""
        return stock_scheduler(manifest)

    def guides(self, manifest: Manifest) -> bool:  # noqa: ARG002 (most do)
        """Whether the class applies guidance to a teacher that is not w-conditioned."""
        return True

    def arguments(
        self, manifest: Manifest, prompts: Sequence[str], *, steps: int, w: float
    ) -> dict[str, Any]:
        """Build the arguments of a user's call of the complete pipeline, as JSON.

        `guidance_scale` is 1 + w if the class passes w on, and 1 (off) if w is baked in. The caller
        adds a generator for the starting noise.
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
        """Return further constant tensor arguments of the call; {} for most classes."""
        return {}

    def condition(self, manifest: Manifest, prompts: Sequence[str]) -> Condition:
        """Compute the condition with which our sampler draws the samples of `arguments`."""
        count, side = len(prompts), manifest.latent_shape[1] * self.pixels_per_latent
        sizes = self.sizes([(side, side)] * count, [(0, 0)] * count, side)
        return {**self.encode(prompts), **sizes}

    def returned(self, latents: Latent) -> Tensor:
        """Convert our sampler's `latents` to the output of the call with `arguments`."""
        return latents


def guided_steps(manifest: Manifest, *, steps: int, w: float) -> dict[str, Any]:
    """Build the call arguments that are common to all classes."""
    scale = 1.0 if manifest.baked_w is not None else guidance_scale(w)
    return {"num_inference_steps": steps, "guidance_scale": scale}


STOCK: Registry[StockPipeline] = Registry(
    "pipeline.models",
    StockPipeline,  # type: ignore[type-abstract]
    "stock pipeline",
    entry_points="stepfold.families",
)
