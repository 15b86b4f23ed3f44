"""The order of rows: permutations, positions, slices."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.training_data import Order

sizes = st.integers(1, 40)
seeds = st.integers(0, 2**31 - 1)


@given(seed=seeds, size=sizes, epoch=st.integers(0, 5))
def test_every_epoch_visits_every_row_once(seed, size, epoch):
    rows = Order(seed, size).rows(epoch * size, size)
    assert rows.dtype == np.int64
    assert sorted(rows) == list(range(size))


@given(seed=seeds, size=sizes, first=st.integers(0, 100), portions=st.lists(st.integers(0, 50)))
@settings(max_examples=50)
def test_portions_do_not_matter(seed, size, first, portions):
    order = Order(seed, size)
    at, parts = first, []
    for portion in portions:
        parts.append(order.rows(at, portion))
        at += portion
    whole = Order(seed, size).rows(first, sum(portions))
    assert np.array_equal(np.concatenate([np.empty(0, np.int64), *parts]), whole)


@given(seed=seeds, size=sizes, position=st.integers(0, 300), others=st.lists(st.integers(0, 300)))
@settings(max_examples=50)
def test_a_position_does_not_depend_on_what_was_read_before(seed, size, position, others):
    fresh = Order(seed, size).rows(position, 1)
    used = Order(seed, size)
    for other in others:
        used.rows(other, 3)
    assert np.array_equal(used.rows(position, 1), fresh)


def test_epochs_and_seeds_are_shuffled_differently():
    rows = Order(0, 1000).rows(0, 2000)
    assert not np.array_equal(rows[:1000], np.arange(1000))
    assert not np.array_equal(rows[:1000], rows[1000:])
    assert not np.array_equal(rows[:1000], Order(1, 1000).rows(0, 1000))


def test_the_first_positions_stay_what_they_were():
    assert Order(3, 10).rows(0, 10).tolist() == [9, 6, 0, 2, 1, 4, 7, 5, 3, 8]


@pytest.mark.parametrize(
    ("seed", "size", "first", "count"), [(-1, 5, 0, 1), (0, 0, 0, 1), (0, 5, -1, 2), (0, 5, 0, -2)]
)
def test_orders_and_positions_that_do_not_exist_are_refused(seed, size, first, count):
    with pytest.raises(ValueError, match=r">= [01]"):
        Order(seed, size).rows(first, count)
