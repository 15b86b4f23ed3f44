"""Canvases: no leakage, legible, independent, in shuffled order."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from pipeline.config import DigitCanvasesData, Recipe, UNetConfig
from pipeline.data.sources.datasets import count_source, identify, load_source
from pipeline.data.sources.demo.digit_canvases import compose_canvases, open_canvases
from pipeline.data.sources.demo.scans import split_scans
from tests.pipeline.test_config import accepted

UNET = UNetConfig(family="unet")
SHAPES = [(2, 32), (2, 16), (3, 32)]
LUMA = np.array([0.299, 0.587, 0.114])
BLANK = tuple(np.zeros((2, 8, 8)) for _ in range(10))


def config(**changes) -> DigitCanvasesData:
    return DigitCanvasesData(**({"source": "digit_canvases", "per_class": 3} | changes))


def contrast(canvas: np.ndarray) -> np.ndarray:
    """Return each pixel's luma difference to the paper, in [0, 1], `[size, size]`."""
    luma = np.tensordot(LUMA, canvas / 255, 1)
    return np.abs(luma - np.median(luma))


def test_no_scan_is_on_both_sides_and_none_is_lost():
    scans = split_scans(0)
    sides = {
        side: {scan.tobytes() for of_digit in pools for scan in of_digit}
        for side, pools in scans.items()
    }
    assert not sides["train"] & sides["heldout"]
    assert sides["train"] | sides["heldout"] == {s.tobytes() for s in load_digits().images / 16}
    for digit, count in enumerate(np.bincount(load_digits().target)):
        held = len(scans["heldout"][digit])
        assert held == int(count / 3 + 0.5)
        assert held + len(scans["train"][digit]) == count


def test_a_canvas_shows_scans_of_its_own_side_only():
    scans = split_scans(0)
    whole = open_canvases(config(), 0)
    for side, other in (("train", "heldout"), ("heldout", "train")):
        without = compose_canvases(config(), 0, scans | {side: BLANK})
        for row in whole.splits[side][:200]:
            assert contrast(whole.read(int(row))).max() > 0.3
            assert contrast(without.read(int(row))).max() == 0
        for row in whole.splits[other][:200]:
            assert np.array_equal(whole.read(int(row)), without.read(int(row)))


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        *(({"digits": digits, "size": size}, None) for digits, size in SHAPES),
        ({"size": 16, "numbers": (7, 70, 18)}, ("07", "70", "18")),
    ],
)
def test_the_class_is_the_number_shown(changes, names):
    blot = np.pad(np.ones((1, 4, 4)), ((0, 0), (2, 2), (2, 2)))
    sevens = dict.fromkeys(("train", "heldout"), (*BLANK[:7], blot, *BLANK[8:]))
    asked = config(**changes)
    source = compose_canvases(asked, 0, sevens)
    digits = asked.digits
    assert source.class_names == (names or tuple(f"{n:0{digits}d}" for n in range(10**digits)))
    each = asked.per_class + asked.holdout_per_class
    assert len(source.labels) == len(source.class_names) * each
    for row in [*source.splits["train"][:300], *source.splits["heldout"][:300]]:
        cells = np.array_split(contrast(source.read(int(row))), digits, axis=1)
        seen = [cell.max() > 0.3 for cell in cells]
        assert seen == [name == "7" for name in source.class_names[source.labels[row]]]


@pytest.mark.parametrize(("digits", "size"), SHAPES)
def test_every_digit_stands_out_from_its_paper(digits, size):
    source = open_canvases(config(digits=digits, size=size), 1)
    for row in source.splits["train"][:1000]:
        canvas = source.read(int(row))
        assert canvas.dtype == np.uint8
        assert canvas.shape == source.latent_shape == (3, size, size)
        for cell in np.array_split(contrast(canvas), digits, axis=1):
            assert cell.max() > 0.3


def test_scans_and_colours_vary():
    source = open_canvases(config(per_class=20), 0)
    canvases = [source.read(int(row)) for row in source.splits["train"]]
    assert len({canvas.tobytes() for canvas in canvases}) == 2000
    papers = np.array([np.median(canvas, axis=(1, 2)) @ LUMA / 255 for canvas in canvases])
    assert 0.45 < (papers < 0.5).mean() < 0.55
    assert not ((papers > 0.26) & (papers < 0.78)).any()


def test_a_canvas_does_not_depend_on_the_others_but_on_the_seed():
    few, many = open_canvases(config(), 5), open_canvases(config(per_class=7), 5)
    other = open_canvases(config(), 6)
    for row in (0, 17, 299):
        assert np.array_equal(few.read(row), many.read(row))
        assert not np.array_equal(few.read(row), other.read(row))
    # the first held-out canvas follows the training canvases
    assert np.array_equal(few.read(300), many.read(700))
    assert few.labels[299] == many.labels[699] == 99
    again = open_canvases(config(), 5)
    for side in ("train", "heldout"):
        assert np.array_equal(few.splits[side], again.splits[side])


def test_the_splits_are_balanced_complete_and_of_mixed_order():
    source = open_canvases(config(per_class=12, holdout_per_class=5), 0)
    assert sorted(np.concatenate(list(source.splits.values()))) == list(range(1700))
    for side, each in (("train", 12), ("heldout", 5)):
        labels = source.labels[source.splits[side]]
        assert np.bincount(labels).tolist() == [each] * 100
        assert len(set(labels[:100])) > 50
        assert labels[:100].tolist() != sorted(labels[:100])


def test_a_recipe_opens_and_counts_them():
    recipe: Recipe = accepted("data={source: digit_canvases, per_class: 4, holdout_per_class: 2}")
    source = load_source(recipe.data, 0, UNET)
    assert source.name == "digit_canvases"
    assert (len(source.labels), len(source.class_names)) == count_source(recipe) == (600, 100)
    assert len(source.splits["heldout"]) == round(600 * recipe.data.holdout) == 200
    assert identify(recipe.data, UNET) == recipe.data.model_dump(
        mode="json", exclude={"masks_per_image"}
    )
