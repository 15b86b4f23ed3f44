"""The tokenizer: words of captions are tokens, all other text is told too, CLIP reads it."""

import pytest
from transformers import CLIPTokenizer

from pipeline.demo.tokenizer import train_tokenizer

CAPTIONS = ("a handwritten three, red ink on pale blue paper", "the digit 3 in RED on white")


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(CAPTIONS, 16)


def test_every_word_of_the_captions_is_one_token(tokenizer):
    words = tokenizer.tokenize(CAPTIONS[0])
    assert words == [
        f"{word}</w>"
        for word in ["a", "handwritten", "three", ",", "red", "ink", "on", "pale", "blue", "paper"]
    ]
    assert tokenizer.tokenize("RED") == ["red</w>"]


@pytest.mark.parametrize("text", ["a quick zebra", "café 🐕", "ж", "!?%", ""])
def test_other_text_keeps_every_byte(tokenizer, text):
    ids = tokenizer(text).input_ids
    assert tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "") == text.replace(" ", "")
    assert ids[0] == tokenizer.bos_token_id
    assert ids.index(tokenizer.eos_token_id) == len(ids) - 1


def test_stock_clip_reads_it_from_its_own_files_and_from_the_older_two(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path / "new")
    (tmp_path / "old").mkdir()
    tokenizer.backend_tokenizer.model.save(str(tmp_path / "old"))
    texts = [*CAPTIONS, "a zebra"]
    expected = tokenizer(texts, padding="max_length", truncation=True).input_ids
    read = CLIPTokenizer.from_pretrained(tmp_path / "new", local_files_only=True)
    assert read.model_max_length == 16
    assert read(texts, padding="max_length", truncation=True).input_ids == expected
    assert {len(row) for row in expected} == {16}
    older = CLIPTokenizer.from_pretrained(
        tmp_path / "old", local_files_only=True, model_max_length=16
    )
    assert older(texts, padding="max_length", truncation=True).input_ids == expected


def test_order_and_repeats_of_captions_change_nothing():
    many = [*CAPTIONS, *(f"{ink} ink {number} in a row" for number in range(9) for ink in "abcdef")]
    fresh = [train_tokenizer(captions, 16) for captions in (many, many[::-1], many * 3, many)]
    assert len({tokenizer.backend_tokenizer.to_str() for tokenizer in fresh}) == 1
