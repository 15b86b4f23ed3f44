"""Image files from anywhere, opened safely: what cannot be used is refused by name.

The decoders are png, jpeg and webp only, whatever a file calls itself, and no image larger than
`MAX_PIXELS` is decoded. What is decoded is turned as its EXIF says and converted to grey or RGB; an
alpha channel is dropped.
"""

import warnings
from dataclasses import dataclass
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline.errors import DataError, SampleError

MAX_PIXELS = 64 * 1024**2

MAX_IMAGE_BYTES = 256 * 1024**2

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp"})

_FORMATS = ("PNG", "JPEG", "WEBP")

Mode: TypeAlias = Literal["L", "RGB"]

File: TypeAlias = Path | BytesIO | BufferedReader


def check_header(file: File, name: str) -> tuple[int, int]:
    """Refuse an image by its header alone.

    Args:
        file: the image; nothing of it is decoded.
        name: what errors call it.

    Returns:
        Its width and height as they are stored, before any turn.

    Raises:
        SampleError: it is no png, jpeg or webp, larger than `MAX_PIXELS` or `MAX_IMAGE_BYTES`,
            animated, or deeper than 8 bits a channel.
        DataError: the file cannot be read at all.
    """
    if isinstance(file, Path) and file.is_file() and file.stat().st_size > MAX_IMAGE_BYTES:
        size = file.stat().st_size
        raise SampleError(name, f" has {size} bytes, more than {MAX_IMAGE_BYTES}; make it smaller")
    with _opened(file, name) as image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise SampleError(
                name, f" is {width}x{height}, more than {MAX_PIXELS} pixels; scale it down"
            )
        # a phone's JPEG with a depth map or thumbnail is MPO: its first frame is the photograph
        if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
            raise SampleError(name, " is animated; keep one frame of it")
        if _is_deep(image):
            raise SampleError(name, " has more than 8 bits a channel; save it with 8")
        return width, height


def _is_deep(image: Image.Image) -> bool:
    # of 16 bits in colour Pillow keeps the upper 8 and says RGB; its decoder's arguments say 16
    decoders = getattr(image, "tile", ())
    return image.mode.startswith(("I", "F")) or any(";16" in str(tile[3]) for tile in decoders)


def decode_upright(file: File, name: str, mode: Mode) -> Image.Image:
    """The pixels of an image, turned as its EXIF says.

    Raises:
        SampleError: it does not decode.
        DataError: the file cannot be read at all.
    """
    with _opened(file, name) as image:
        try:
            # in place, and without a copy where none is needed: the largest has 256 MB of pixels
            ImageOps.exif_transpose(image, in_place=True)
            return image if image.mode == mode else image.convert(mode)
        except Exception as error:  # decoders raise whatever they trip over
            raise _unreadable(name, error) from None


def _opened(file: File, name: str) -> Image.Image:
    try:
        with warnings.catch_warnings():
            # our own cap is lower than the one Pillow warns of
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return Image.open(file, formats=_FORMATS)
    except Exception as error:  # decoders raise whatever they trip over
        raise _unreadable(name, error) from None


def _unreadable(name: str, error: Exception) -> DataError:
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno):
        # the machine's fault, not the image's: nothing to set aside
        return DataError(f"{name} cannot be read ({error or 'out of memory'}); run again")
    # Pillow names the object that it was given, which is another at every run
    what = "no such image" if isinstance(error, UnidentifiedImageError) else str(error)
    return SampleError(
        name, f" cannot be read as png, jpg or webp ({what}); replace it or move it away"
    )


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
