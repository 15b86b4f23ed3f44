"""Read the network configuration of a stock pipeline from the configurations of its parts.

Each function reads one pipeline class and checks that the parts match, because a text encoder of
another width fails only inside the network, hours later.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import BundleError
from pipeline.models.directory.pipeline_files import read_json

_W_EMBEDDING_DIM = 256  # as in published students
_SIZE_INPUTS = 6  # SDXL's size and crop inputs
_FLUX_PATCH = 4  # latent pixels in one token


@dataclass(frozen=True)
class NetworkFields:
    """Network fields read from a pipeline.

    Attributes:
        network: fields of the `Network` document.
        latent_shape: (channels, height, width) of the denoised samples.
        num_classes: number of classes; 0 for a text-conditional network.
    """

    network: dict[str, Any]
    latent_shape: tuple[int, int, int]
    num_classes: int = 0


class PartConfigs:
    """The `config.json` files of a pipeline's parts, read on access."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, part: str) -> Path:
        """Return the path of a part's file."""
        return self.directory / part / "config.json"

    def get(self, part: str, key: str) -> Any:
        """Return a value, None if the key is absent."""
        return read_json(self.path(part)).get(key)

    def number(self, part: str, key: str) -> int:
        """Return an integer >= 1.

        Raises:
            BundleError: the value is missing or not such an integer.
        """
        value = self.get(part, key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise BundleError(
                f"{self.path(part)}: expected an integer >= 1 for {key}, got {value!r}; copy the "
                "pipeline again"
            )
        return value

    def side(self, part: str) -> tuple[int, int]:
        """Return `sample_size` as (height, width)."""
        value = self.get(part, "sample_size")
        if isinstance(value, list) and len(value) == 2:
            return int(value[0]), int(value[1])
        size = self.number(part, "sample_size")
        return size, size

    def downsampling(self) -> int:
        """Compute pixels per latent along one side: each autoencoder level but one halves.

        Raises:
            BundleError: the autoencoder's configuration has no levels.
        """
        levels = self.get("vae", "block_out_channels")
        if not isinstance(levels, list) or not levels:
            raise BundleError(
                f"{self.path('vae')}: expected a list for block_out_channels, got {levels!r}; copy "
                "the pipeline again"
            )
        return int(2 ** (len(levels) - 1))

    def agree(self, what: str, width: int, part: str, key: str) -> None:
        """Check that a part takes inputs of this width.

        Raises:
            BundleError: it does not; the message names both sides.
        """
        expected = self.number(part, key)
        if width != expected:
            raise BundleError(
                f"{self.directory}: {what} {width}, but {part} has {key} {expected}; use parts of "
                "the same pipeline"
            )


def stable_diffusion(configs: PartConfigs) -> NetworkFields:
    """Read Stable Diffusion 1.x and 2.x: a U-Net with one CLIP encoder."""
    _plain_unet(configs, None)
    return _unet(configs, configs.number("text_encoder", "hidden_size"), image_channels=0)


def inpainting(configs: PartConfigs) -> NetworkFields:
    """Read Stable Diffusion inpainting: mask and masked latents are extra input channels."""
    _plain_unet(configs, None)
    latent = configs.number("vae", "latent_channels")
    return _unet(configs, configs.number("text_encoder", "hidden_size"), image_channels=latent + 1)


def stable_diffusion_xl(configs: PartConfigs) -> NetworkFields:
    """Read SDXL: two concatenated CLIP encoders, the second's pooled embedding, and sizes."""
    _plain_unet(configs, "text_time")
    width = configs.number("text_encoder", "hidden_size")
    width += configs.number("text_encoder_2", "hidden_size")
    pooled = configs.number("text_encoder_2", "projection_dim")
    added = _SIZE_INPUTS * configs.number("unet", "addition_time_embed_dim") + pooled
    key = "projection_class_embeddings_input_dim"
    configs.agree("sizes and pooled embedding have width", added, "unet", key)
    found = _unet(configs, width, image_channels=0)
    found.network["pooled_channels"] = pooled
    return found


def _plain_unet(configs: PartConfigs, addition: str | None) -> None:
    if configs.get("unet", "time_cond_proj_dim") is not None:
        raise BundleError(
            f"{configs.path('unet')}: time_cond_proj_dim is set, so this network is w-conditioned, "
            "a distilled student (such as LCM); use the teacher it was distilled from"
        )
    expected = {
        "addition_embed_type": addition,
        "class_embed_type": None,
        "num_class_embeds": None,
        "encoder_hid_dim_type": None,
    }
    for key, value in expected.items():
        found = configs.get("unet", key)
        if found != value:
            raise BundleError(
                f"{configs.path('unet')}: {key} is {found!r}, which its pipeline does not support; "
                f"expected {value!r}"
            )


def _unet(configs: PartConfigs, width: int, image_channels: int) -> NetworkFields:
    latent = configs.number("vae", "latent_channels")
    configs.agree("the text encoders have width", width, "unet", "cross_attention_dim")
    configs.agree("the pipeline passes channels", latent + image_channels, "unet", "in_channels")
    configs.agree("vae has latent_channels", latent, "unet", "out_channels")
    heads = configs.get("unet", "num_attention_heads") or configs.get("unet", "attention_head_dim")
    network = {
        "family": "unet",
        "block_channels": configs.get("unet", "block_out_channels"),
        "layers_per_block": configs.get("unet", "layers_per_block"),
        "norm_groups": configs.get("unet", "norm_num_groups"),
        "w_embedding_dim": _W_EMBEDDING_DIM,
        "text_channels": width,
        "image_channels": image_channels,
        "attention_heads": heads[0] if isinstance(heads, list) and heads else heads or 8,
    }
    return NetworkFields(network, (latent, *configs.side("unet")))


def dit(configs: PartConfigs) -> NetworkFields:
    """Read a class-conditional transformer, whose output may include a learned variance."""
    latent = configs.number("vae", "latent_channels")
    configs.agree("vae has latent_channels", latent, "transformer", "in_channels")
    network = {
        "family": "dit",
        "layers": configs.number("transformer", "num_layers"),
        "heads": configs.number("transformer", "num_attention_heads"),
        "head_dim": configs.number("transformer", "attention_head_dim"),
        "patch": configs.number("transformer", "patch_size"),
    }
    classes = configs.number("transformer", "num_embeds_ada_norm")
    return NetworkFields(network, (latent, *configs.side("transformer")), classes)


def stable_diffusion_3(configs: PartConfigs) -> NetworkFields:
    """Read SD3: T5 tokens after both CLIP encoders' tokens, which are padded to T5's width."""
    latent = configs.number("vae", "latent_channels")
    configs.agree("vae has latent_channels", latent, "transformer", "in_channels")
    pooled = sum(
        configs.number(part, "projection_dim") for part in ("text_encoder", "text_encoder_2")
    )
    return NetworkFields(
        _mmdit(configs, "sd3", "text_encoder_3", pooled),
        (latent, *configs.side("transformer")),
    )


def flux(configs: PartConfigs) -> NetworkFields:
    """Read Flux: T5 tokens, CLIP's pooled embedding, and latents packed two by two.

    Its network has no image size; the autoencoder's `sample_size` is used.
    """
    latent = configs.number("vae", "latent_channels")
    configs.agree(
        "packed latents have channels", _FLUX_PATCH * latent, "transformer", "in_channels"
    )
    side = configs.number("vae", "sample_size") // configs.downsampling()
    pooled = configs.number("text_encoder", "hidden_size")
    return NetworkFields(_mmdit(configs, "flux", "text_encoder_2", pooled), (latent, side, side))


def _mmdit(configs: PartConfigs, kind: str, t5: str, pooled: int) -> dict[str, Any]:
    width = configs.number(t5, "d_model")
    configs.agree(f"{t5} has width", width, "transformer", "joint_attention_dim")
    configs.agree("the pooled embedding has width", pooled, "transformer", "pooled_projection_dim")
    return {
        "family": "mmdit",
        "kind": kind,
        "layers": configs.number("transformer", "num_layers"),
        "heads": configs.number("transformer", "num_attention_heads"),
        "head_dim": configs.number("transformer", "attention_head_dim"),
        "text_channels": width,
        "pooled_channels": pooled,
        "guidance_embeds": bool(configs.get("transformer", "guidance_embeds")),
    }
