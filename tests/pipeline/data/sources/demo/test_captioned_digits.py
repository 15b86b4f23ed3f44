"""Captioned canvases: captions match images, no leakage, canvases are independent."""

import numpy as np
import pytest

from pipeline.config import CaptionedDigitsData
from pipeline.data.sources.demo.captioned_digits import (
    INKS,
    PAPERS,
    compose_captioned,
    detect_colours,
    open_captioned_digits,
    read_attributes,
)
from pipeline.data.sources.demo.scans import split_scans

BLANK = tuple(np.zeros((2, 8, 8)) for _ in range(10))


def config(**changes) -> CaptionedDigitsData:
    return CaptionedDigitsData(**({"source": "captioned_digits", "count": 400} | changes))


def contrast(canvas: np.ndarray) -> float:
    """Return the largest difference of a pixel from the canvas's paper, in 8-bit steps."""
    paper = np.median(canvas, axis=(1, 2), keepdims=True)
    return float(np.abs(canvas - paper).max())


def unit_range(source, rows) -> np.ndarray:
    return np.stack([source.read(int(row)) for row in rows]).transpose(0, 2, 3, 1) / 127.5 - 1


@pytest.mark.parametrize("size", [16, 32])
def test_held_out_canvases_look_as_their_captions_say(size):
    source = open_captioned_digits(config(size=size, holdout_count=2000), 3)
    rows = source.splits["heldout"]
    said = [read_attributes(source.caption(int(row)).text) for row in rows]
    seen = detect_colours(unit_range(source, rows))
    right = (seen.ink == [a.ink for a in said]) & (seen.paper == [a.paper for a in said])
    # 9,000 canvases of another seed were all read right; 1% is the tolerance of reports
    assert right.mean() >= 0.99
    assert [a.digit for a in said] == source.labels[rows].tolist()
    assert {a.ink for a in said} == set(INKS)
    assert {a.paper for a in said} == set(PAPERS)


def test_colours_are_still_seen_through_noise():
    source = open_captioned_digits(config(holdout_count=1000), 0)
    rows = source.splits["heldout"]
    said = [read_attributes(source.caption(int(row)).text) for row in rows]
    noise = np.random.default_rng(0).normal(0, 0.1, (1000, 16, 16, 3))
    seen = detect_colours(np.clip(unit_range(source, rows) + noise, -1, 1))
    assert (seen.ink == [a.ink for a in said]).mean() >= 0.99
    assert (seen.paper == [a.paper for a in said]).mean() >= 0.99


def test_a_canvas_shows_scans_of_its_own_side_only():
    scans = split_scans(0)
    whole = open_captioned_digits(config(holdout_count=200), 0)
    for side, other in (("train", "heldout"), ("heldout", "train")):
        without = compose_captioned(config(holdout_count=200), 0, scans | {side: BLANK})
        for row in whole.splits[side]:
            assert contrast(whole.read(int(row))) > 60
            assert contrast(without.read(int(row))) == 0
        for row in whole.splits[other]:
            assert np.array_equal(whole.read(int(row)), without.read(int(row)))


def test_the_class_is_the_digit_shown():
    blot = np.pad(np.ones((1, 4, 4)), ((0, 0), (2, 2), (2, 2)))
    sevens = dict.fromkeys(("train", "heldout"), (*BLANK[:7], blot, *BLANK[8:]))
    source = compose_captioned(config(count=45, holdout_count=12), 0, sevens)
    for row in np.concatenate(list(source.splits.values())):
        assert (contrast(source.read(int(row))) > 60) == (source.labels[row] == 7)
        assert read_attributes(source.caption(int(row)).text).digit == source.labels[row]


def test_a_canvas_does_not_depend_on_the_others_but_on_the_seed():
    few, many = (open_captioned_digits(config(count=count), 5) for count in (400, 700))
    other = open_captioned_digits(config(), 6)
    for row in (0, 17, 399):
        assert np.array_equal(few.read(row), many.read(row))
        assert few.caption(row) == many.caption(row)
        assert not np.array_equal(few.read(row), other.read(row))
    # the first held-out canvas follows the training canvases
    assert np.array_equal(few.read(400), many.read(700))
    assert few.caption(400) == many.caption(700)
    again = open_captioned_digits(config(), 5)
    for side in ("train", "heldout"):
        assert np.array_equal(few.splits[side], again.splits[side])


def test_canvases_are_many_and_their_splits_complete():
    source = open_captioned_digits(config(holdout_count=105), 0)
    assert sorted(np.concatenate(list(source.splits.values()))) == list(range(505))
    assert source.latent_shape == (3, 16, 16)
    assert np.bincount(source.labels[source.splits["train"]]).tolist() == [40] * 10
    assert np.ptp(np.bincount(source.labels[source.splits["heldout"]])) == 1
    canvases = [source.read(row) for row in range(505)]
    assert all(canvas.dtype == np.uint8 for canvas in canvases)
    assert len({canvas.tobytes() for canvas in canvases}) == 505


def test_captions_keep_the_size_of_the_canvas():
    caption = open_captioned_digits(config(size=32), 0).caption(0)
    assert caption.original_size == (32, 32)
    assert caption.crop == (0, 0)
