"""Sentences: whatever is said is read back, and prompts cover all there is to say."""

import itertools

import pytest

from pipeline.data.colours import INKS, PAPERS
from pipeline.data.digit_wording import WORDINGS, Attributes, prompt_for, read_attributes, say
from pipeline.errors import DataError

ALL = [Attributes(*parts) for parts in itertools.product(range(10), INKS, PAPERS)]


def test_every_sentence_is_read_back_and_none_means_two_things():
    sentences = {}
    for attributes, wording in itertools.product(ALL, range(WORDINGS)):
        text = say(attributes, wording)
        assert read_attributes(text) == attributes
        sentences[text] = attributes
    assert len(sentences) == len(ALL) * WORDINGS


def test_the_vocabulary_is_small():
    sentences = [say(attributes, wording) for attributes in ALL for wording in range(WORDINGS)]
    words = {
        word for text in sentences for word in text.replace(",", " ").replace(":", " ").split()
    }
    assert len(words) < 80
    assert max(len(text.split()) for text in sentences) < 16


@pytest.mark.parametrize("text", ["", "a dog", "red seven", "red seven on pale blue, please"])
def test_other_sentences_are_refused(text):
    with pytest.raises(DataError, match="no sentence of captioned_digits; say for example"):
        read_attributes(text)


@pytest.mark.parametrize("label", range(10))
@pytest.mark.parametrize("first", [0, 100, 12345])
def test_consecutive_prompts_of_a_digit_have_all_colours_then_all_words(label, first):
    said = [read_attributes(prompt_for(label, first + index)) for index in range(30)]
    assert {a.digit for a in said} == {label}
    assert len({(a.ink, a.paper) for a in said}) == len(INKS) * len(PAPERS)
    assert len({prompt_for(label, first + index) for index in range(480)}) == 30 * WORDINGS


def test_digits_of_one_index_differ_in_colour():
    said = [read_attributes(prompt_for(label, 0)) for label in range(10)]
    assert len({(a.ink, a.paper) for a in said}) == 10
