"""Extractors with random weights: published weights are not available without a network."""

import math
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import CLIPConfig, CLIPModel, Dinov2Config, Dinov2Model

from pipeline.config import ExtractorConfig
from pipeline.evaluation.features.inception import InceptionV3

WORDS = ("a", "red", "blue", "seven", "one", "on", "paper", "ink", "handwritten")


def write_dino(folder: Path) -> ExtractorConfig:
    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14
    )
    Dinov2Model(config).save_pretrained(folder)
    return ExtractorConfig(kind="dinov2", path=str(folder))


def write_clip(folder: Path) -> ExtractorConfig:
    torch.manual_seed(0)
    vocabulary = {word: index for index, word in enumerate(("<start>", "<end>", "?", *WORDS))}
    text = {
        "vocab_size": len(vocabulary),
        "max_position_embeddings": 8,
        "bos_token_id": 0,
        "eos_token_id": 1,
    }
    size = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    vision = {"image_size": 16, "patch_size": 8}
    config = CLIPConfig(text_config=text | size, vision_config=vision | size, projection_dim=12)
    CLIPModel(config).save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 0), ("<end>", 1)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    return ExtractorConfig(kind="clip", path=str(folder))


def formula_inception() -> InceptionV3:
    """Weights by a formula, so that results of another implementation can be stored."""
    network = InceptionV3()
    with torch.no_grad():
        for place, (name, value) in enumerate(sorted(network.state_dict().items())):
            if not value.is_floating_point():
                continue
            wave = torch.sin(torch.arange(value.numel(), dtype=torch.float64) * 0.7 + place)
            if name.endswith(("running_var", "bn.weight")):
                filled = 1 + 0.2 * wave
            elif value.ndim > 1:
                filled = wave * math.sqrt(1.5 / value[0].numel())
            else:
                filled = 0.1 * wave
            value.copy_(filled.reshape(value.shape))
    return network.eval()


def write_inception(path: Path) -> ExtractorConfig:
    save_file(formula_inception().state_dict(), path)
    return ExtractorConfig(kind="inception", path=str(path))
