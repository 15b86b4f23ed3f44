"""Captions are kept exactly, and invalid ones are refused by name."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.data.sources.captions import MAX_TEXT_BYTES, Caption, clean_text, parse_json
from pipeline.errors import DataError

sizes = st.integers(1, 10**6)
corners = st.integers(0, 10**6)


@given(
    text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    size=st.tuples(sizes, sizes),
    crop=st.tuples(corners, corners),
)
def test_a_caption_comes_back_exactly(text, size, crop):
    caption = Caption(text=text, original_size=size, crop=crop)
    assert Caption.model_validate_json(caption.to_json()) == caption
    assert json.loads(caption.to_json()) == {
        "caption": text,
        "original_size": list(size),
        "crop": list(crop),
    }


@pytest.mark.parametrize(
    "changes", [{"text": ""}, {"original_size": (0, 4)}, {"crop": (-1, 0)}, {"crop": (1,)}]
)
def test_what_cannot_be_is_refused(changes):
    with pytest.raises(ValidationError):
        Caption(**({"text": "a", "original_size": (1, 1), "crop": (0, 0)} | changes))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "here: the caption is empty"),
        (" \n\t", "here: the caption is empty"),
        (None, "here: the caption is NoneType, not text"),
        (7, "here: the caption is int, not text"),
        ("\ud800", "here: the caption is not valid Unicode"),
        ("é" * MAX_TEXT_BYTES, "here: the caption has 2097152 bytes"),
    ],
)
def test_no_caption_is_named(text, complaint):
    with pytest.raises(DataError, match=complaint):
        clean_text(text, "here")


def test_blanks_around_a_caption_go_and_those_inside_stay():
    assert clean_text(" a  dog 🐕\n", "here") == "a  dog 🐕"


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 10**6, b"[1]", b'"text"'])
def test_no_json_object_is_named(content):
    with pytest.raises(DataError, match=r"^here (is not JSON|holds)"):
        parse_json(content, "here")
