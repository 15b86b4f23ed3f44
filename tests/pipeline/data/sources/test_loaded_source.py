"""The held-out split: stratified, complete, a function of the seed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.sources.loaded_source import stratified_split, unlabelled_split
from pipeline.errors import DataError


@given(
    counts=st.lists(st.integers(2, 30), min_size=1, max_size=5),
    holdout=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**31 - 1),
)
def test_every_sample_is_on_one_side_and_every_class_on_both(counts, holdout, seed):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    names = tuple(str(label) for label in range(len(counts)))
    split = stratified_split(labels, names, holdout, seed)
    both = np.concatenate([split["train"], split["heldout"]])
    assert sorted(both) == list(range(len(labels)))
    held = np.bincount(labels[split["heldout"]], minlength=len(counts))
    for count, share in zip(counts, held, strict=True):
        assert 1 <= share <= count - 1
        assert abs(share - holdout * count) <= 1
    again = stratified_split(labels, names, holdout, seed)
    assert all(np.array_equal(split[side], again[side]) for side in split)


def test_another_seed_holds_out_others():
    labels = np.zeros(100, np.int64)
    first, second = (stratified_split(labels, ("a",), 0.5, seed)["heldout"] for seed in (0, 1))
    assert set(first) != set(second)


@pytest.mark.parametrize("labels", [[0, 0], [0, 0, 1]])
def test_a_class_that_cannot_be_split_is_named(labels):
    with pytest.raises(DataError, match=rf"class 'wet 🐕' has {labels.count(1)} sample"):
        stratified_split(np.array(labels), ("dry", "wet 🐕"), 0.5, 0)


@pytest.mark.parametrize(
    ("total", "holdout", "held"), [(5, 0.02, 4), (5, 0.99, 4), (100, 0.02, 4), (1000, 0.02, 20)]
)
def test_without_classes_a_share_but_at_least_four_are_held_out(total, holdout, held):
    splits = unlabelled_split(total, holdout, 0, "here")
    assert len(splits["heldout"]) == held
    assert sorted(np.concatenate(list(splits.values()))) == list(range(total))
    again, other = (unlabelled_split(total, holdout, seed, "here") for seed in (0, 1))
    assert np.array_equal(splits["train"], again["train"])
    assert not np.array_equal(
        np.concatenate(list(splits.values())), np.concatenate(list(other.values()))
    )


@pytest.mark.parametrize("total", [0, 4])
def test_too_few_samples_without_classes_are_refused(total):
    with pytest.raises(DataError, match=rf"here holds {total} sample\(s\)"):
        unlabelled_split(total, 0.5, 0, "here")
