"""Encoding of one sample: exact inverses, and nothing but data."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pipeline.data.shards.sample_encoding import decode, encode, to_unit_range

images = st.tuples(st.sampled_from([1, 3]), st.integers(1, 9), st.integers(1, 9))
latents = st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 4))
floats = st.floats(width=32, allow_nan=False)


@given(sample=images.flatmap(lambda shape: arrays.arrays(np.uint8, shape)))
def test_png_is_exact(sample):
    assert np.array_equal(decode(encode(sample, "png"), "png", sample.shape), sample)


@given(sample=latents.flatmap(lambda shape: arrays.arrays(np.float32, shape, elements=floats)))
def test_npy_is_exact(sample):
    assert np.array_equal(decode(encode(sample, "npy"), "npy", sample.shape), sample)


def test_another_shape_or_type_is_refused():
    sample = np.zeros((1, 4, 4), np.float32)
    with pytest.raises(ValueError, match="instead of"):
        decode(encode(sample, "npy"), "npy", (1, 4, 5))
    with pytest.raises(TypeError, match="png samples are uint8"):
        encode(sample, "png")


def test_a_pickle_in_an_npy_is_refused():
    buffer = io.BytesIO()
    np.save(buffer, np.array([print], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="not a readable npy"):
        decode(buffer.getvalue(), "npy", (1, 1, 1))


def test_pixels_span_exactly_minus_one_to_one():
    scaled = to_unit_range(np.array([0, 51, 255], np.uint8))
    assert scaled.dtype == np.float32
    assert scaled[0] == -1.0
    assert scaled[2] == 1.0
    assert scaled[1] == pytest.approx(-0.6, abs=1e-7)
