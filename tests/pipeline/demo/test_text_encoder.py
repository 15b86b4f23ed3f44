"""The text encoder: what changes the image is told apart in the end of the caption."""

import numpy as np
import pytest
import torch

from pipeline.data.shards.reader import SampleShards
from pipeline.demo.text_encoder import (
    class_accuracy,
    explained_variance,
    tokenize,
    train_text_encoder,
)
from pipeline.demo.tokenizer import train_tokenizer
from pipeline.errors import DivergenceError

WIDTH = 16


@pytest.fixture(scope="module")
def tokenizer(tiny, train):
    captions = train.captions(np.arange(len(train)))
    return train_tokenizer((caption.text for caption in captions), tiny.text_tokens)


@pytest.fixture(scope="module")
def reader(tiny, tokenizer, train):
    return train_text_encoder(tiny, WIDTH, tokenizer, train, 0)


def test_captions_are_padded_to_one_length_and_end(tokenizer, train):
    tokens = tokenize(tokenizer, train)
    assert tokens.shape == (len(train), 16)
    assert (tokens == tokenizer.eos_token_id).any(1).all()


def test_captions_explain_some_of_their_own_images_and_not_all(reader, tokenizer, train):
    # 0 is what the mean image explains; not 1, as hand, place and shade are not said
    assert 0.05 < explained_variance(reader, tokenizer, train) < 1


def test_one_untrained_update_explains_nothing(tiny, tokenizer, train):
    fresh = train_text_encoder(
        tiny.model_copy(update={"text_encoder_updates": 1}), WIDTH, tokenizer, train, 0
    )
    assert explained_variance(fresh, tokenizer, train) < 0


def test_a_class_is_read_from_its_captions(reader, tokenizer, train, captioned):
    accuracy = class_accuracy(reader, tokenizer, train, train)
    assert accuracy > 0.5  # guessing gives .1; 60 samples, 17 numbers to fit each class with
    heldout = class_accuracy(reader, tokenizer, train, SampleShards(captioned, "heldout"))
    assert 0 <= heldout <= 1


def test_equal_seeds_are_equal_weights(reader, tiny, tokenizer, train):
    again = train_text_encoder(tiny, WIDTH, tokenizer, train, 0).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in reader.state_dict().items())


class Spoilt(SampleShards):
    def read(self, rows):
        batch = super().read(rows)
        batch.x[0, 0, 0, 0] = float("nan")
        return batch


def test_a_loss_that_is_not_finite_ends_training(tiny, tokenizer, captioned):
    with pytest.raises(DivergenceError, match=r"text encoder: the loss is nan after \d+ updates"):
        train_text_encoder(tiny, WIDTH, tokenizer, Spoilt(captioned, "train"), 0)
