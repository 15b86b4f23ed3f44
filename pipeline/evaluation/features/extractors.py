"""Feature extractors Inception-v3, DINOv2 and CLIP, from local weights.

Images are rounded to 8 bits first, like real images. Weights are loaded from safetensors, or from
the published Inception-v3 file of known sha256 with `weights_only=True`, so no pickled code runs.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from pipeline.errors import ConfigError
from pipeline.evaluation.features.extractor_weights import Weights
from pipeline.evaluation.features.inception import InceptionV3
from pipeline.sampling.sampler import Images, check_finite

_BATCH = 32
_DINO_SIDE = 224  # the usual evaluation size; training used larger images
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_OPENAI = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))

Read = Float32[np.ndarray, "_ d"]


class Extractor(ABC):
    """A loaded feature network."""

    def __init__(self, device: torch.device) -> None:
        """Run on `device`."""
        self.device = device

    def read(self, images: Images) -> Read:
        """Compute features of images `[n, h, w, c]`, c = 1 or 3, float32 `[n, d]`."""
        parts = [
            self._features(to_uint8_pixels(images[at : at + _BATCH]).to(self.device))
            for at in range(0, len(images), _BATCH)
        ]
        return torch.cat(parts).float().cpu().numpy()

    def read_prompts(self, prompts: Sequence[str]) -> Read:
        """Compute features of prompts in the image feature space, float32 `[n, d]`.

        Raises:
            ConfigError: the network has no text encoder.
        """
        raise ConfigError(
            f"{type(self).__name__} has no text encoder for {len(prompts)} prompts; use kind `clip`"
        )

    @abstractmethod
    def _features(self, pixels: Tensor) -> Tensor:
        """Compute features of a batch of pixels, uint8 `[b, 3, h, w]`."""


def to_uint8_pixels(images: Images) -> Tensor:
    """Convert images in [-1, 1] to uint8 `[n, 3, h, w]`; one channel is repeated to three.

    Raises:
        DivergenceError: a value is not finite.
    """
    check_finite(images, "images of a feature extractor")
    x = torch.from_numpy(images).permute(0, 3, 1, 2)
    pixels = ((x.double() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return pixels.expand(-1, 3, -1, -1) if pixels.shape[1] == 1 else pixels


class _Inception(Extractor):
    def __init__(self, weights: Weights, device: torch.device) -> None:
        super().__init__(device)
        if weights.path.suffix == ".safetensors":
            state = load_file(weights.path)
        else:  # the published file only, checked by sha256; loads tensors only
            state = torch.load(weights.path, map_location="cpu", weights_only=True)
        self._network = _ready(InceptionV3(), state, weights).to(device)

    @torch.inference_mode()
    def _features(self, pixels: Tensor) -> Tensor:
        found: Tensor = self._network(pixels)
        return found


def _ready(network: InceptionV3, state: dict[str, Tensor], weights: Weights) -> InceptionV3:
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ConfigError(
            f"{weights.path} does not match Inception-v3; use torch-fidelity's weights: "
            f"{str(error)[:300]}"
        ) from None
    return network.eval()


class _Dino(Extractor):
    def __init__(self, weights: Weights, device: torch.device) -> None:
        super().__init__(device)
        from transformers import Dinov2Model

        self._network = _from(Dinov2Model, weights).to(device)
        self._prepare = _preparation(weights, _DINO_SIDE, _IMAGENET)

    @torch.inference_mode()
    def _features(self, pixels: Tensor) -> Tensor:
        found: Tensor = self._network(self._prepare(pixels)).pooler_output
        return found


class _Clip(Extractor):
    def __init__(self, weights: Weights, device: torch.device) -> None:
        super().__init__(device)
        from tokenizers import Tokenizer
        from transformers import CLIPModel

        self._network = _from(CLIPModel, weights).to(device)
        config = self._network.config
        self._prepare = _preparation(weights, config.vision_config.image_size, _OPENAI)
        self._tokenizer = Tokenizer.from_file(str(weights.path / "tokenizer.json"))
        self._longest = config.text_config.max_position_embeddings
        self._end = config.text_config.eos_token_id

    @torch.inference_mode()
    def _features(self, pixels: Tensor) -> Tensor:
        found: Tensor = self._network.get_image_features(self._prepare(pixels)).pooler_output
        return found

    @torch.inference_mode()
    def read_prompts(self, prompts: Sequence[str]) -> Read:
        """Compute features of prompts, truncated to the network's maximum length."""
        self._tokenizer.enable_truncation(self._longest)
        self._tokenizer.no_padding()
        rows = [encoded.ids for encoded in self._tokenizer.encode_batch(list(prompts))]
        # tokens after the end token are ignored, so the padding token does not matter
        tokens = torch.tensor([ids + [self._end] * (self._longest - len(ids)) for ids in rows])
        parts = [
            self._network.get_text_features(tokens[at : at + _BATCH].to(self.device)).pooler_output
            for at in range(0, len(tokens), _BATCH)
        ]
        found: Read = torch.cat(parts).float().cpu().numpy()
        return found


_KINDS: dict[str, Callable[[Weights, torch.device], Extractor]] = {
    "inception": _Inception,
    "dinov2": _Dino,
    "clip": _Clip,
}


def open_extractor(weights: Weights, device: torch.device | None = None) -> Extractor:
    """Load an extractor; the default device is this process's GPU, else the CPU.

    Raises:
        ConfigError: the weights do not match the network.
    """
    chosen = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return _KINDS[weights.kind](weights, chosen)


def _from(model: Any, weights: Weights) -> Any:
    try:
        found = model.from_pretrained(
            weights.path, local_files_only=True, use_safetensors=True, dtype=torch.float32
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"{weights.path} cannot be loaded; download it again: {str(error)[:300]}"
        ) from None
    return found.eval()


def _preparation(
    weights: Weights, side: int, usual: tuple[Sequence[float], Sequence[float]]
) -> Callable[[Tensor], Tensor]:
    """Return the preprocessing of a network, from its preprocessor configuration or `usual`."""
    path = weights.path / "preprocessor_config.json"
    config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    crop = config.get("crop_size")
    side = int(crop["height"]) if isinstance(crop, dict) else side
    mean, spread = (
        torch.tensor(config.get(key, usual[place])).view(1, 3, 1, 1)
        for place, key in enumerate(("image_mean", "image_std"))
    )

    def prepare(pixels: Tensor) -> Float[Tensor, "b 3 s s"]:
        x = pixels.float() / 255
        x = functional.interpolate(x, (side, side), mode="bicubic", antialias=True).clamp(0, 1)
        return (x - mean.to(x.device)) / spread.to(x.device)

    return prepare
