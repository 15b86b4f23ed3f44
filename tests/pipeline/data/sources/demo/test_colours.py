"""The colours of the palette are distinct under every variation."""

import itertools

import numpy as np
import pytest

from pipeline.data.sources.demo.captioned_digits import INKS, PAPERS, VARIATION, detect_colours


@pytest.mark.parametrize("palette", [INKS, PAPERS])
def test_no_variation_brings_two_colours_together(palette):
    for one, other in itertools.combinations(palette.values(), 2):
        # each may move by VARIATION in every channel; beyond twice that, the nearer is its own
        assert np.linalg.norm(np.subtract(one, other)) > 2 * VARIATION * np.sqrt(3)
    for colour in palette.values():
        assert min(colour) - VARIATION >= 0
        assert max(colour) + VARIATION <= 255


@pytest.mark.parametrize("share", [0.75, 1.0])
@pytest.mark.parametrize("size", [16, 32])
def test_a_stroke_is_seen_on_every_paper_even_if_it_lets_some_through(share, size):
    pairs = list(itertools.product(INKS, PAPERS))
    canvases = np.empty((len(pairs), size, size, 3))
    for canvas, (ink, paper) in zip(canvases, pairs, strict=True):
        canvas[:] = PAPERS[paper]
        stroke = share * np.array(INKS[ink]) + (1 - share) * np.array(PAPERS[paper])
        canvas[4:12, 7:9] = stroke
    seen = detect_colours((canvases / 127.5 - 1).astype(np.float32))
    assert list(zip(seen.ink.tolist(), seen.paper.tolist(), strict=True)) == pairs


def test_no_images_are_no_names():
    seen = detect_colours(np.empty((0, 16, 16, 3)))
    assert seen.ink.shape == seen.paper.shape == (0,)
