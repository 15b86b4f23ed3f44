"""Complete stock diffusers pipelines with tiny random weights, created without downloads."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DiffusionPipeline,
    DiTPipeline,
    DiTTransformer2DModel,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from tokenizers.pre_tokenizers import ByteLevel
from torch import nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

Folder = Callable[[str], Path]
"""A fresh copy of the pipeline of a kind, to be spoilt."""

LATENT = (4, 8, 8)
PIXELS = 16
WIDTH = 32
TOKENS = 16
CLASSES = 10

_DISCRETE = {"num_train_timesteps": 1000, "clip_sample": False}
_SD_PATH = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "steps_offset": 1,
    "set_alpha_to_one": False,
    **_DISCRETE,
}


def tiny_pipeline(kind: str, folder: Path) -> Path:
    """Write the pipeline of that kind into `folder`, the same bytes every time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipeline = _KINDS[kind]()
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder


def clip_tokenizer() -> CLIPTokenizer:
    """Bytes, `of` and `red` as in CLIP's tokenizer; the two special tokens are last."""
    letters = sorted(ByteLevel.alphabet())
    words = [*letters, *(f"{letter}</w>" for letter in letters), "of</w>", "re", "red</w>"]
    words += ["<|startoftext|>", "<|endoftext|>"]
    vocab = {word: number for number, word in enumerate(words)}
    merges = [("o", "f</w>"), ("r", "e"), ("re", "d</w>")]
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=TOKENS)


def t5_tokenizer() -> T5TokenizerFast:
    """Letters and spaces; everything else is unknown."""
    marks = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    letters = [(chr(code), -3.0) for code in range(ord("a"), ord("z") + 1)]
    return T5TokenizerFast(vocab=marks + letters, extra_ids=0, model_max_length=TOKENS)


def _clip(kind: type[nn.Module]) -> Any:
    tokenizer = clip_tokenizer()
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=TOKENS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return _shaken(kind(config))


def _t5(width: int) -> Any:
    config = T5Config(
        vocab_size=len(t5_tokenizer()),
        d_model=width,
        d_kv=8,
        d_ff=2 * width,
        num_layers=1,
        num_heads=4,
        is_encoder_decoder=False,
        use_cache=False,
    )
    return _shaken(T5EncoderModel(config))


def _autoencoder(**more: Any) -> Any:
    return AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        latent_channels=LATENT[0],
        sample_size=PIXELS,
        **more,
    )


def _unet(**more: Any) -> Any:
    return _shaken(
        UNet2DConditionModel(
            **{
                "sample_size": LATENT[1],
                "in_channels": LATENT[0],
                "out_channels": LATENT[0],
                "block_out_channels": (16, 32),
                "layers_per_block": 1,
                "norm_num_groups": 8,
                "attention_head_dim": 4,
                "cross_attention_dim": WIDTH,
                "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
                "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
                **more,
            }
        )
    )


def _shaken(module: nn.Module) -> nn.Module:
    """Perturb weights so that no layer returns zero and norms stay about 1."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return module.eval()


def _sd(prediction_type: str = "epsilon") -> DiffusionPipeline:
    return StableDiffusionPipeline(
        vae=_autoencoder(),
        text_encoder=_clip(CLIPTextModel),
        tokenizer=clip_tokenizer(),
        unet=_unet(),
        scheduler=DDIMScheduler(prediction_type=prediction_type, **_SD_PATH),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _inpainting() -> DiffusionPipeline:
    return StableDiffusionInpaintPipeline(
        vae=_autoencoder(),
        text_encoder=_clip(CLIPTextModel),
        tokenizer=clip_tokenizer(),
        unet=_unet(in_channels=2 * LATENT[0] + 1),
        scheduler=DDIMScheduler(**_SD_PATH),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _sdxl() -> DiffusionPipeline:
    sizes = 8
    unet = _unet(
        cross_attention_dim=2 * WIDTH,
        addition_embed_type="text_time",
        addition_time_embed_dim=sizes,
        projection_class_embeddings_input_dim=6 * sizes + WIDTH,
    )
    return StableDiffusionXLPipeline(
        vae=_autoencoder(scaling_factor=0.13025),
        text_encoder=_clip(CLIPTextModel),
        text_encoder_2=_clip(CLIPTextModelWithProjection),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(),
        unet=unet,
        scheduler=DDIMScheduler(**_SD_PATH),
        add_watermarker=False,
    )


def _sd3() -> DiffusionPipeline:
    transformer = SD3Transformer2DModel(
        sample_size=LATENT[1],
        in_channels=LATENT[0],
        out_channels=LATENT[0],
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        caption_projection_dim=16,
        joint_attention_dim=2 * WIDTH,
        pooled_projection_dim=2 * WIDTH,
        pos_embed_max_size=LATENT[1],
    )
    return StableDiffusion3Pipeline(
        transformer=_shaken(transformer),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=_autoencoder(**_FLOW_AUTOENCODER),
        text_encoder=_clip(CLIPTextModelWithProjection),
        tokenizer=clip_tokenizer(),
        text_encoder_2=_clip(CLIPTextModelWithProjection),
        tokenizer_2=clip_tokenizer(),
        text_encoder_3=_t5(2 * WIDTH),  # diffusers loads no SD3 directory that is without
        tokenizer_3=t5_tokenizer(),
    )


def _flux() -> DiffusionPipeline:
    transformer = FluxTransformer2DModel(
        in_channels=4 * LATENT[0],
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        axes_dims_rope=(2, 2, 4),
        guidance_embeds=False,
    )
    return FluxPipeline(
        transformer=_shaken(transformer),
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=_autoencoder(**_FLOW_AUTOENCODER),
        text_encoder=_clip(CLIPTextModel),
        tokenizer=clip_tokenizer(),
        text_encoder_2=_t5(WIDTH),
        tokenizer_2=t5_tokenizer(),
    )


def _dit() -> DiffusionPipeline:
    transformer = DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=LATENT[0],
        out_channels=2 * LATENT[0],
        num_layers=2,
        attention_bias=True,
        sample_size=LATENT[1],
        patch_size=2,
        num_embeds_ada_norm=CLASSES,
    )
    return DiTPipeline(
        transformer=_shaken(transformer),
        vae=_autoencoder(),
        scheduler=DDIMScheduler(beta_schedule="linear", **_DISCRETE),
    )


_FLOW_AUTOENCODER = {
    "scaling_factor": 1.5305,
    "shift_factor": 0.0609,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}

_KINDS: dict[str, Callable[[], DiffusionPipeline]] = {
    "sd": _sd,
    "sd2-v": lambda: _sd("v_prediction"),
    "sdxl": _sdxl,
    "sd-inpaint": _inpainting,
    "sd3": _sd3,
    "flux": _flux,
    "dit": _dit,
}

KINDS = tuple(_KINDS)


def edit(path: Path, **changes: Any) -> None:
    """Change keys of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def sharded(folder: Path, place: str) -> None:
    """Write an index that places all weights of the network at `place`."""
    weights = folder / "unet/diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_name("diffusion_pytorch_model-00001-of-00001.safetensors"))
    index = {"metadata": {}, "weight_map": {"conv_in.weight": place}}
    weights.with_name(f"{weights.name}.index.json").write_text(json.dumps(index))
