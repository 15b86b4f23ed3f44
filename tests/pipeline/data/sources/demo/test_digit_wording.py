"""Captions can be parsed, and prompts cover all captions."""

import itertools

import pytest

from pipeline.data.sources.demo.captioned_digits import (
    INKS,
    PAPERS,
    WORDINGS,
    Attributes,
    caption_text,
    read_attributes,
)
from pipeline.errors import DataError

ALL = [Attributes(*parts) for parts in itertools.product(range(10), INKS, PAPERS)]


def test_every_sentence_is_read_back_and_none_means_two_things():
    sentences = {}
    for attributes, wording in itertools.product(ALL, range(WORDINGS)):
        text = caption_text(attributes, wording)
        assert read_attributes(text) == attributes
        sentences[text] = attributes
    assert len(sentences) == len(ALL) * WORDINGS


def test_the_vocabulary_is_small():
    sentences = [
        caption_text(attributes, wording) for attributes in ALL for wording in range(WORDINGS)
    ]
    words = {
        word for text in sentences for word in text.replace(",", " ").replace(":", " ").split()
    }
    assert len(words) < 80
    assert max(len(text.split()) for text in sentences) < 16


@pytest.mark.parametrize("text", ["", "a dog", "red seven", "red seven on pale blue, please"])
def test_other_sentences_are_refused(text):
    with pytest.raises(DataError, match="not a caption of captioned_digits"):
        read_attributes(text)
