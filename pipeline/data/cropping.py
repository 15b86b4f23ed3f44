"""Images of any size made square, and what was cut away remembered."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image


@dataclass(frozen=True)
class Cropped:
    """The centre of an image.

    Attributes:
        pixels: uint8 `[3, size, size]`.
        original_size: (height, width) of the image before it was scaled.
        corner: (top, left) of the crop in the scaled image.
    """

    pixels: NDArray[np.uint8]
    original_size: tuple[int, int]
    corner: tuple[int, int]


def crop_centre(image: Image.Image, size: int) -> Cropped:
    """Scale an upright RGB image until it just covers `size` x `size`, and keep the centre.

    Only what is kept is computed, so a long thin image costs no more than another.
    """
    width, height = image.size
    scale = size / min(width, height)
    left, top = (int((side * scale - size) / 2) for side in (width, height))
    # the quotient of the side that just fits may be rounded to a hair outside the image
    right, bottom = min(width, (left + size) / scale), min(height, (top + size) / scale)
    if image.size != (size, size):
        image = image.resize(
            (size, size),
            Image.Resampling.LANCZOS,
            box=(left / scale, top / scale, right, bottom),
        )
    pixels = np.asarray(image).transpose(2, 0, 1)
    return Cropped(pixels=pixels, original_size=(height, width), corner=(top, left))
