"""Train a small tokenizer, and a `CLIPTextModel` to predict images from their captions.

A temporary head predicts the image from the caption's end-of-text embedding. The optimal prediction
is the mean image of the caption, so the embedding must distinguish everything in a caption that
changes the image. Training needs captions and images but no classes, and takes seconds.
"""

import json
import math
from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Int64
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from pipeline.config import ComponentsTraining
from pipeline.data.shards.reader import SampleShards
from pipeline.demo.fitting import Hyperparameters, ProgressCallback, Rows, fit, seeded
from pipeline.randomness import RowRandom

_RATE = 2e-3
_HEAD_WIDTH = 256
_HEADS = 4
_CHUNK = 512
_MOST_TOKENS = 4096
_WORD_END = "</w>"


def train_tokenizer(captions: Iterable[str], tokens: int) -> CLIPTokenizer:
    """Train a vocabulary; other text is split into smaller pieces, down to bytes.

    Source: Sennrich et al. 2016, arXiv:1508.07909, on bytes as in CLIP; trained by `tokenizers`.

    Args:
        captions: training captions; order and repetitions have no effect.
        tokens: length in tokens to which prompts are padded and cut, start and end included.
    """
    blank = CLIPTokenizer()
    letters = sorted(ByteLevel.alphabet())
    trainer = BpeTrainer(
        vocab_size=_MOST_TOKENS,
        # ties are broken by token number, and the trainer's own numbering of letters is not stable
        special_tokens=[*letters, *(letter + _WORD_END for letter in letters)],
        end_of_word_suffix=_WORD_END,
        show_progress=False,
    )
    blank.backend_tokenizer.train_from_iterator(sorted(set(captions)), trainer)
    learned = json.loads(blank.backend_tokenizer.to_str())["model"]
    vocabulary: dict[str, int] = learned["vocab"]
    words = sorted(vocabulary, key=vocabulary.__getitem__)
    return CLIPTokenizer(
        vocab={
            word: number for number, word in enumerate([*words, blank.bos_token, blank.eos_token])
        },
        merges=[tuple(pair) for pair in learned["merges"]],
        model_max_length=tokens,
    )


class CaptionReader(nn.Module):
    """A text encoder with its training head.

    Attributes:
        encoder: the text encoder.
    """

    def __init__(self, encoder: CLIPTextModel, values: int) -> None:
        super().__init__()
        self.encoder = encoder
        width = encoder.config.hidden_size
        self._head = nn.Sequential(
            nn.Linear(width, _HEAD_WIDTH), nn.SiLU(), nn.Linear(_HEAD_WIDTH, values)
        )

    def forward(self, tokens: Int64[Tensor, "b tokens"]) -> Tensor:
        """Predict the images of captions, flattened: `[b, values]`."""
        image: Tensor = self._head(self.encoder(input_ids=tokens).pooler_output)
        return image


def train_text_encoder(
    config: ComponentsTraining,
    width: int,
    tokenizer: CLIPTokenizer,
    samples: SampleShards,
    seed: int,
    progress: ProgressCallback = lambda _: None,
) -> CaptionReader:
    """Train on captions and images of the training split; `width` is that of a token embedding.

    Raises:
        DivergenceError: training diverged.
    """
    tokens = tokenize(tokenizer, samples)
    with seeded(seed):
        encoder = CLIPTextModel(_config(config, width, tokenizer))
        reader = CaptionReader(encoder, math.prod(samples.info.latent_shape))

    def loss_of(rows: Rows, _: RowRandom) -> Tensor:
        image = samples.read(rows).x.flatten(1)
        return nn.functional.mse_loss(reader(tokens[torch.from_numpy(rows)]), image)

    settings = Hyperparameters(config.text_encoder_updates, config.batch_size, _RATE, seed)
    fit("text encoder", (reader,), loss_of, len(samples), settings, progress)
    return reader


def tokenize(tokenizer: CLIPTokenizer, samples: SampleShards) -> Int64[Tensor, "n tokens"]:
    """Tokenize the captions of all samples, padded and cut as in stock pipelines."""
    captions = samples.captions(np.arange(len(samples)))
    return torch.tensor(
        tokenizer(
            [caption.text for caption in captions], padding="max_length", truncation=True
        ).input_ids
    )


@torch.no_grad()
def explained_variance(
    reader: CaptionReader, tokenizer: CLIPTokenizer, samples: SampleShards
) -> float:
    """Compute the fraction of held-out image variance explained by captions, at most 1.

    It is far below 1 even for the best encoder, because captions do not describe the handwriting.
    """
    images = samples.read(np.arange(len(samples))).x.flatten(1)
    parts = torch.split(tokenize(tokenizer, samples), _CHUNK)
    error = torch.cat([reader(part) for part in parts]) - images
    spread = images - images.mean(0)
    return 1 - float(error.double().square().sum() / spread.double().square().sum())


@torch.no_grad()
def class_accuracy(
    reader: CaptionReader,
    tokenizer: CLIPTokenizer,
    train: SampleShards,
    heldout: SampleShards,
) -> float:
    """Compute the held-out class accuracy of a linear probe on caption embeddings, in [0, 1].

    The probe is fitted to the training captions by least squares.
    """
    (fitted, labels), (tested, expected) = (
        (_features(reader, tokenizer, split), split.conditions(np.arange(len(split)))["label"])
        for split in (train, heldout)
    )
    targets = nn.functional.one_hot(labels, train.info.num_classes).double()
    linear = torch.linalg.lstsq(fitted, targets, driver="gelsd").solution
    return float(((tested @ linear).argmax(1) == expected).double().mean())


def _features(reader: CaptionReader, tokenizer: CLIPTokenizer, samples: SampleShards) -> Tensor:
    parts = torch.split(tokenize(tokenizer, samples), _CHUNK)
    pooled = torch.cat([reader.encoder(input_ids=part).pooler_output for part in parts]).double()
    return torch.cat([pooled, torch.ones(len(pooled), 1, dtype=pooled.dtype)], 1)


def _config(config: ComponentsTraining, width: int, tokenizer: CLIPTokenizer) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=4 * width,
        projection_dim=width,
        num_hidden_layers=config.text_layers,
        num_attention_heads=math.gcd(_HEADS, width),
        max_position_embeddings=config.text_tokens,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
