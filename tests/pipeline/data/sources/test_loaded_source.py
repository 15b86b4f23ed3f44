"""The held-out split: stratified, complete, a function of the seed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.sources.findings import Findings, find_copies
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


def copied(pairs, count=40):
    """Contents of `count` samples, of which those of each pair are the same."""
    contents = list(range(count))
    for first, second in pairs:
        contents[second] = contents[first]
    return contents


@given(pairs=st.lists(st.tuples(st.integers(0, 39), st.integers(0, 39)), max_size=12))
def test_no_content_is_on_both_sides(pairs):
    contents = copied(pairs)
    labels = np.arange(40) % 2
    split = stratified_split(labels, ("a", "b"), 0.3, 0, contents)
    for found in (split, unlabelled_split(40, 0.3, 0, "it", contents)):
        sides = [{contents[row] for row in found[side]} for side in ("train", "heldout")]
        assert not sides[0] & sides[1]
        assert sorted(np.concatenate(list(found.values()))) == list(range(40))
    classes = {}
    for content, label in zip(contents, labels, strict=True):
        classes.setdefault(content, set()).add(label)
    assert all(len(classes[contents[row]]) == 1 for row in split["heldout"])


def test_a_split_without_copies_is_that_of_numbers_alone():
    labels, names = np.arange(40) % 2, ("a", "b")
    for plain, compared in (
        (
            stratified_split(labels, names, 0.3, 7),
            stratified_split(labels, names, 0.3, 7, copied(())),
        ),
        (unlabelled_split(40, 0.3, 7, "it"), unlabelled_split(40, 0.3, 7, "it", copied(()))),
    ):
        assert all(np.array_equal(plain[side], compared[side]) for side in plain)


def test_captions_of_one_image_are_held_out_together():
    contents = [row // 5 for row in range(200)]
    held = unlabelled_split(200, 0.1, 0, "it", contents)["heldout"]
    assert len(held) == 20
    assert {contents.count(contents[row]) for row in held} == {5}
    assert len({contents[row] for row in held}) == 4


def test_the_least_is_held_out_though_each_sample_has_copies():
    split = stratified_split(np.zeros(6, np.int64), ("a",), 0.1, 0, [0, 0, 0, 1, 1, 1])
    assert len(split["heldout"]) == 3
    contents = [row % 5 for row in range(15)]
    held = unlabelled_split(15, 0.02, 0, "it", contents)["heldout"]
    assert len(held) == 6


def test_only_copies_are_refused():
    with pytest.raises(DataError, match=r"class 'b': its 2 samples are copies of one another or"):
        stratified_split(np.array([0, 0, 1, 1]), ("a", "b"), 0.1, 0, [0, 1, 2, 2])
    with pytest.raises(DataError, match=r"pics holds 10 samples, which are copies of one another"):
        unlabelled_split(10, 0.1, 0, "pics", [0] * 10)


def test_copies_are_counted_and_those_of_two_classes_named():
    contents = ["x", "y", "x", "z", "y"]
    copies, crossing = find_copies(contents, np.array([0, 0, 0, 1, 1]))
    assert (copies, crossing) == ([2, 4], [1, 4])
    found = Findings("image", 5, "abcde".__getitem__, copies=copies, crossing=crossing)
    assert found.sentences == (
        "2 of 5 images have the same content as an earlier one (first: c); copies are kept in the "
        "same split.",
        "2 of 5 images have a copy in another class (first: b); these images are used for "
        "training; keep each in one class.",
    )
    assert find_copies(["x", "y"], None) == ([], [])
