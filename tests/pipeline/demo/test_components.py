"""The demo's tokenizer, text encoder and autoencoder, trained on a few captioned images."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import CLIPTokenizer

from pipeline.config import CaptionedDigitsData, ComponentsTraining, UNetConfig
from pipeline.data.shards.reader import SampleShards
from pipeline.data.shards.writer import write_dataset
from pipeline.data.sources.datasets import load_source
from pipeline.demo.autoencoder import normalise_latents, reconstruction_rms, train_autoencoder
from pipeline.demo.text_encoder import (
    class_accuracy,
    explained_variance,
    tokenize,
    train_text_encoder,
    train_tokenizer,
)
from pipeline.errors import ConfigError, DivergenceError

CAPTIONS = ("a handwritten three, red ink on pale blue paper", "the digit 3 in RED on white")
WIDTH = 16
TINY = ComponentsTraining(
    autoencoder_updates=3,
    text_encoder_updates=40,
    batch_size=8,
    autoencoder_channels=(4, 8),
    text_layers=1,
)


@pytest.fixture(scope="module")
def captioned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("captioned")
    config = CaptionedDigitsData(source="captioned_digits", count=60, holdout_count=20)
    write_dataset(folder, load_source(config, 0, UNetConfig(family="unet")), config)
    return folder


@pytest.fixture(scope="module")
def train(captioned):
    return SampleShards(captioned, "train")


@pytest.fixture(scope="module")
def images(train):
    return train.read(np.arange(len(train))).x


@pytest.fixture(scope="module")
def words():
    return train_tokenizer(CAPTIONS, 16)


@pytest.fixture(scope="module")
def tokenizer(train):
    captions = train.captions(np.arange(len(train)))
    return train_tokenizer((caption.text for caption in captions), TINY.text_tokens)


@pytest.fixture(scope="module")
def reader(tokenizer, train):
    return train_text_encoder(TINY, WIDTH, tokenizer, train, 0)


@pytest.fixture(scope="module")
def autoencoder(train):
    return train_autoencoder(TINY, train, 16, 0)


@torch.no_grad()
def encoded(autoencoder, images):
    return autoencoder.encode(images).latent_dist.mean


@torch.no_grad()
def reconstructed(autoencoder, images):
    return autoencoder.decode(encoded(autoencoder, images)).sample


def test_every_word_of_the_captions_is_one_token(words):
    told = ["a", "handwritten", "three", ",", "red", "ink", "on", "pale", "blue", "paper"]
    assert words.tokenize(CAPTIONS[0]) == [f"{word}</w>" for word in told]
    assert words.tokenize("RED") == ["red</w>"]


@pytest.mark.parametrize("text", ["a quick zebra", "café 🐕", "ж", "!?%", ""])
def test_other_text_keeps_every_byte(words, text):
    ids = words(text).input_ids
    assert words.decode(ids, skip_special_tokens=True).replace(" ", "") == text.replace(" ", "")
    assert ids[0] == words.bos_token_id
    assert ids.index(words.eos_token_id) == len(ids) - 1


def test_stock_clip_reads_it_from_its_own_files_and_from_the_older_two(words, tmp_path):
    words.save_pretrained(tmp_path / "new")
    (tmp_path / "old").mkdir()
    words.backend_tokenizer.model.save(str(tmp_path / "old"))
    texts = [*CAPTIONS, "a zebra"]
    expected = words(texts, padding="max_length", truncation=True).input_ids
    assert {len(row) for row in expected} == {16}
    for name, length in (("new", {}), ("old", {"model_max_length": 16})):
        read = CLIPTokenizer.from_pretrained(tmp_path / name, local_files_only=True, **length)
        assert read.model_max_length == 16
        assert read(texts, padding="max_length", truncation=True).input_ids == expected


def test_order_and_repeats_of_captions_change_nothing():
    many = [*CAPTIONS, *(f"{ink} ink {number} in a row" for number in range(9) for ink in "abcdef")]
    fresh = [train_tokenizer(captions, 16) for captions in (many, many[::-1], many * 3, many)]
    assert len({tokenizer.backend_tokenizer.to_str() for tokenizer in fresh}) == 1


def test_captions_are_padded_to_one_length_and_end(tokenizer, train):
    tokens = tokenize(tokenizer, train)
    assert tokens.shape == (len(train), 16)
    assert (tokens == tokenizer.eos_token_id).any(1).all()


def test_captions_explain_some_of_their_own_images_and_not_all(reader, tokenizer, train):
    # 0 is the mean image; below 1, because captions omit handwriting, position and shade
    assert 0.05 < explained_variance(reader, tokenizer, train) < 1
    brief = TINY.model_copy(update={"text_encoder_updates": 1})
    fresh = train_text_encoder(brief, WIDTH, tokenizer, train, 0)
    assert explained_variance(fresh, tokenizer, train) < 0


def test_a_class_is_read_from_its_captions(reader, tokenizer, train, captioned):
    accuracy = class_accuracy(reader, tokenizer, train, train)
    assert accuracy > 0.5  # guessing gives .1; 60 samples, 17 numbers to fit each class with
    heldout = class_accuracy(reader, tokenizer, train, SampleShards(captioned, "heldout"))
    assert 0 <= heldout <= 1


def test_equal_seeds_are_equal_weights_and_the_process_generator_is_not_touched(
    reader, autoencoder, tokenizer, train
):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    for first, again in (
        (reader, train_text_encoder(TINY, WIDTH, tokenizer, train, 0)),
        (autoencoder, train_autoencoder(TINY, train, 16, 0)),
    ):
        weights = again.state_dict()
        assert all(
            torch.equal(tensor, weights[name]) for name, tensor in first.state_dict().items()
        )
    other = train_autoencoder(TINY, train, 16, 1).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(
        autoencoder.state_dict()["quant_conv.weight"], other["quant_conv.weight"]
    )


class Spoilt(SampleShards):
    def read(self, rows):
        batch = super().read(rows)
        batch.x[0, 0, 0, 0] = float("nan")
        return batch


def test_a_loss_that_is_not_finite_ends_training(tokenizer, captioned):
    with pytest.raises(DivergenceError, match=r"text encoder: the loss is nan after \d+ updates"):
        train_text_encoder(TINY, WIDTH, tokenizer, Spoilt(captioned, "train"), 0)


def test_training_latents_have_mean_0_and_scaled_variance_1(autoencoder, images):
    latents = encoded(autoencoder, images) * autoencoder.config.scaling_factor
    assert latents.shape[1:] == (4, 8, 8)
    # sums of 3840 float32 numbers of size 1
    assert latents.mean((0, 2, 3)).abs().max() < 1e-4
    assert float(latents.std()) == pytest.approx(1, abs=1e-4)


def test_the_reported_error_is_that_of_all_values(autoencoder, train, images):
    back = reconstructed(autoencoder, images).clamp(-1, 1)
    expected = math.sqrt(float((back - images).double().square().mean()))
    assert reconstruction_rms(autoencoder, train) == pytest.approx(expected, rel=1e-5)


def test_centring_changes_no_image(train, images):
    autoencoder = train_autoencoder(TINY, train, 16, 2)
    before = reconstructed(autoencoder, images[:8])
    inverse = autoencoder.post_quant_conv
    with torch.no_grad():
        autoencoder.quant_conv.bias[:4] += 3
        inverse.bias -= 3 * inverse.weight[:, :, 0, 0].sum(1)
    normalise_latents(autoencoder, train)
    after = reconstructed(autoencoder, images[:8])
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)


def test_training_brings_images_back_better_than_their_mean(train, images):
    longer = {"autoencoder_updates": 60, "autoencoder_channels": (8, 16)}
    trained = train_autoencoder(TINY.model_copy(update=longer), train, 16, 0)
    assert reconstruction_rms(trained, train) < float(images.std())


def test_images_that_cannot_be_halved_are_refused(train):
    deep = TINY.model_copy(update={"autoencoder_channels": (4,) * 6})
    with pytest.raises(ConfigError, match="16 pixels cannot be halved 5 times"):
        train_autoencoder(deep, train, 16, 0)
