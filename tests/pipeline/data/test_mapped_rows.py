"""Rows from many pieces of memory: what is asked for is what is there."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.records import MappedRows


@given(
    sizes=st.lists(st.integers(1, 200), min_size=1, max_size=5),
    data=st.data(),
)
def test_every_row_is_the_slice_of_its_piece(sizes, data):
    generator = np.random.default_rng(sum(sizes))
    pieces = [generator.integers(256, size=size, dtype=np.uint8).tobytes() for size in sizes]
    mapped = MappedRows([memoryview(piece) for piece in pieces])
    width = data.draw(st.integers(1, min(sizes)))
    asked = data.draw(
        st.lists(
            st.integers(0, len(sizes) - 1).flatmap(
                lambda i: st.tuples(st.just(i), st.integers(0, sizes[i] - width))
            ),
            min_size=1,
            max_size=20,
        )
    )
    places = np.array([mapped.bases[piece] + offset for piece, offset in asked], np.int64)
    rows = mapped.gather(places, width)
    expected = [pieces[piece][offset : offset + width] for piece, offset in asked]
    assert [row.tobytes() for row in rows] == expected


def test_pieces_may_be_gone_for_the_caller():
    mapped = MappedRows([memoryview(bytes(range(100)))])
    assert mapped.gather(np.array([10, 97], np.int64), 3).tolist() == [[10, 11, 12], [97, 98, 99]]


def test_rows_are_copies_and_the_pieces_are_not_written():
    piece = bytearray(b"abcdef")
    mapped = MappedRows([memoryview(piece)])
    rows = mapped.gather(np.array([1], np.int64), 2)
    rows[:] = 0
    assert piece == b"abcdef"


def test_a_place_outside_all_pieces_is_refused():
    with pytest.raises(IndexError):
        MappedRows([memoryview(b"abc")]).gather(np.array([2], np.int64), 2)
