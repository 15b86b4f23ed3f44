"""Safe reading of untrusted image files.

Only the png, jpeg and webp decoders are used, independent of the file name, and no image larger
than `MAX_PIXELS` is decoded. Images are rotated by their EXIF orientation, transparent pixels are
filled with a background, and the result is grey or RGB.
"""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline.config import AlphaFill
from pipeline.errors import DataError, SampleError

MAX_PIXELS = 64 * 1024**2

MAX_IMAGE_BYTES = 256 * 1024**2

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp"})

_FORMATS = ("PNG", "JPEG", "WEBP")

Mode: TypeAlias = Literal["L", "RGB"]

File: TypeAlias = Path | BytesIO | BufferedReader

_FILL = {"white": 255, "black": 0, "grey": 128, "refuse": 255}
"""Value of each background; unused with `refuse`, which rejects transparent pixels."""

_NAMED = 3  # refused images in an error message


class Header(NamedTuple):
    """Header of an image: stored size in pixels, and whether it has an alpha channel."""

    width: int
    height: int
    has_alpha: bool


class Upright(NamedTuple):
    """A decoded image without alpha channel, and whether pixels of it were transparent."""

    image: Image.Image
    was_transparent: bool


def check_header(file: File, name: str) -> Header:
    """Validate an image by its header alone.

    Args:
        file: the image; its pixels are not decoded.
        name: name for error messages.

    Returns:
        Stored width and height in pixels, before EXIF rotation; and whether it has an alpha channel
        or transparent palette entries.

    Raises:
        SampleError: not a png, jpeg or webp, larger than `MAX_PIXELS` or `MAX_IMAGE_BYTES`,
            animated, or more than 8 bits per channel.
        DataError: the file cannot be read.
    """
    if isinstance(file, Path) and file.is_file() and file.stat().st_size > MAX_IMAGE_BYTES:
        size = file.stat().st_size
        raise SampleError(name, f" has {size} bytes, more than {MAX_IMAGE_BYTES}; reduce its size")
    with _opened(file, name) as image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise SampleError(
                name, f" is {width}x{height}, more than {MAX_PIXELS} pixels; scale it down"
            )
        # phone JPEGs with a depth map or thumbnail are MPO files: the first frame is the photograph
        if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
            raise SampleError(name, " is animated; keep one frame of it")
        if _is_deep(image):
            raise SampleError(name, " has more than 8 bits per channel; save it with 8")
        return Header(width, height, image.has_transparency_data)


def _is_deep(image: Image.Image) -> bool:
    # Pillow converts 16-bit colour to mode RGB; only the decoder's arguments show the 16 bits
    decoders = getattr(image, "tile", ())
    return image.mode.startswith(("I", "F")) or any(";16" in str(tile[3]) for tile in decoders)


def refuse_transparent(images: Iterable[tuple[File, str]]) -> None:
    """Check that no image has a transparent pixel, as `data.alpha: refuse` requires.

    Args:
        images: those with an alpha channel, with names for messages. Undecodable ones are
            left to the quarantine.

    Raises:
        DataError: some have; the message has their number and the first few.
    """
    found = []
    for file, name in images:
        try:
            if decode_upright(file, name, "RGB").was_transparent:
                found.append(name)
        except SampleError:
            continue
    if found:
        first = ", ".join(found[:_NAMED]) + (", ..." if len(found) > _NAMED else "")
        raise DataError(
            f"data.alpha: refuse, but {len(found)} image(s) have transparent pixels: {first}; fill "
            "them, or set data.alpha: white, black or grey"
        )


def decode_upright(file: File, name: str, mode: Mode, background: AlphaFill = "white") -> Upright:
    """Decode an image, apply its EXIF orientation, and fill transparent pixels.

    Args:
        file: the image.
        name: name for error messages.
        mode: grey or RGB.
        background: colour under transparent pixels.

    Raises:
        SampleError: the image cannot be decoded.
        DataError: the file cannot be read.
    """
    with _opened(file, name) as image:
        try:
            # in place and without needless copies: the largest image has 256 MB of pixels
            ImageOps.exif_transpose(image, in_place=True)
            return _filled(image, mode, _FILL[background])
        except Exception as error:  # decoders raise many kinds of errors
            raise _unreadable(name, error) from None


def _filled(image: Image.Image, mode: Mode, value: int) -> Upright:
    if not image.has_transparency_data:
        return Upright(image if image.mode == mode else image.convert(mode), was_transparent=False)
    layer = image.convert("RGBA")
    if layer.getchannel("A").getextrema() == (255, 255):
        return Upright(layer.convert(mode), was_transparent=False)
    canvas = Image.new("RGBA", layer.size, (value, value, value, 255))
    canvas.alpha_composite(layer)
    return Upright(canvas.convert(mode), was_transparent=True)


def _opened(file: File, name: str) -> Image.Image:
    try:
        with warnings.catch_warnings():
            # our own limit is lower than that of Pillow's warning
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return Image.open(file, formats=_FORMATS)
    except Exception as error:  # decoders raise many kinds of errors
        raise _unreadable(name, error) from None


def _unreadable(name: str, error: Exception) -> DataError:
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno):
        # an error of the machine, not of the image: do not quarantine
        return DataError(f"{name} cannot be read ({error or 'out of memory'}); run again")
    # Pillow's message has the address of the file object, which differs between runs
    what = "no such image" if isinstance(error, UnidentifiedImageError) else str(error)
    return SampleError(name, f" cannot be read as png, jpg or webp ({what}); replace or remove it")


@dataclass(frozen=True)
class Cropped:
    """The centre crop of an image.

    Attributes:
        pixels: uint8 `[3, size, size]`.
        original_size: (height, width) of the image before scaling, in pixels.
        corner: (top, left) of the crop in the scaled image, in pixels.
    """

    pixels: NDArray[np.uint8]
    original_size: tuple[int, int]
    corner: tuple[int, int]


def crop_centre(image: Image.Image, size: int) -> Cropped:
    """Scale an upright RGB image to cover `size` x `size`, and crop the centre.

    Only the crop is computed, so a very long image takes no more time or memory.
    """
    width, height = image.size
    scale = size / min(width, height)
    left, top = (int((side * scale - size) / 2) for side in (width, height))
    # rounding may put the shorter side slightly outside the image
    right, bottom = min(width, (left + size) / scale), min(height, (top + size) / scale)
    if image.size != (size, size):
        image = image.resize(
            (size, size),
            Image.Resampling.LANCZOS,
            box=(left / scale, top / scale, right, bottom),
        )
    pixels = np.asarray(image).transpose(2, 0, 1)
    return Cropped(pixels=pixels, original_size=(height, width), corner=(top, left))
