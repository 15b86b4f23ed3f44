"""Resize-and-crop equals the centre of the whole scaled image."""

import numpy as np
import pytest
from PIL import Image

from pipeline.data.sources.images import crop_centre


def noise(height, width):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize(
    ("height", "width", "corner"),
    [(16, 16, (0, 0)), (32, 64, (0, 8)), (96, 32, (16, 0)), (8, 12, (0, 4)), (17, 100, (0, 39))],
)
def test_what_was_cut_is_remembered(height, width, corner):
    cropped = crop_centre(noise(height, width), 16)
    assert cropped.pixels.shape == (3, 16, 16)
    assert cropped.pixels.dtype == np.uint8
    assert cropped.original_size == (height, width)
    assert cropped.corner == corner


@pytest.mark.parametrize(("height", "width"), [(32, 64), (96, 32), (8, 12)])
def test_the_crop_is_a_part_of_the_scaled_image(height, width):
    image = noise(height, width)
    cropped = crop_centre(image, 16)
    scale = 16 / min(height, width)
    whole = np.asarray(
        image.resize((round(width * scale), round(height * scale)), Image.Resampling.LANCZOS)
    )
    top, left = cropped.corner
    part = whole[top : top + 16, left : left + 16].transpose(2, 0, 1)
    assert np.abs(cropped.pixels.astype(int) - part).max() <= 1  # rounding between two passes


def test_an_image_of_the_right_size_is_kept_exactly():
    image = noise(16, 16)
    assert np.array_equal(crop_centre(image, 16).pixels, np.asarray(image).transpose(2, 0, 1))


@pytest.mark.parametrize("size", [16, 17, 333, 512])
@pytest.mark.parametrize("short", [1, 3, 7, 48, 49, 331])
def test_every_side_can_be_scaled_to_every_size(short, size):
    for height, width in ((short, short + 1), (short + 1, short), (short, 3 * short)):
        assert crop_centre(noise(height, width), size).pixels.shape == (3, size, size)


def test_a_long_thin_image_costs_no_more_than_another():
    # scaled as a whole it would have 512 x 1e9 pixels
    cropped = crop_centre(Image.new("RGB", (2_000_000, 1)), 512)
    assert cropped.corner == (0, 512 * (2_000_000 - 1) // 2)
