"""Image files from anywhere, opened safely: what cannot be used is refused by name.

The decoders are png, jpeg and webp only, whatever a file calls itself, and no image larger than
`MAX_PIXELS` is decoded. What is decoded is turned as its EXIF says and converted to grey or RGB; an
alpha channel is dropped.
"""

import warnings
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Literal, TypeAlias

from PIL import Image, ImageOps

from pipeline.errors import DataError

MAX_PIXELS = 64 * 1024**2
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
        DataError: it is no png, jpeg or webp, larger than `MAX_PIXELS`, animated, or deeper than
            8 bits a channel.
    """
    with _opened(file, name) as image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise DataError(
                f"{name} is {width}x{height}, more than {MAX_PIXELS} pixels; scale it down"
            )
        # a phone's JPEG with a depth map or thumbnail is MPO: its first frame is the photograph
        if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
            raise DataError(f"{name} is animated; keep one frame of it")
        if image.mode.startswith(("I", "F")):
            raise DataError(f"{name} has more than 8 bits a channel; save it with 8")
        return width, height


def decode_upright(file: File, name: str, mode: Mode) -> Image.Image:
    """The pixels of an image, turned as its EXIF says.

    Raises:
        DataError: it does not decode.
    """
    with _opened(file, name) as image:
        try:
            return ImageOps.exif_transpose(image).convert(mode)
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
    return DataError(
        f"{name} cannot be read as png, jpg or webp ({error}); replace it or move it away"
    )
