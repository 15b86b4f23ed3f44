"""Unusual image files: unusable ones with the reason, and usable ones."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

SIZE = 8


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(seed, side=SIZE):
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    return Image.fromarray(pixels)


def png_of(depth, colour, side=SIZE, pixels=None, *, is_packed=False, extra=None):
    """A png with a header for this size, depth and colour type."""
    header = struct.pack(">IIBBBBB", side, side, depth, colour, 0, 0, 0)
    width = {0: 1, 2: 3, 6: 4}[colour] * depth // 8
    content = pixels if pixels is not None else (b"\0" + bytes([200]) * width * side) * side
    content = content if is_packed else zlib.compress(content)
    chunks = [(b"IHDR", header), *([extra] if extra else []), (b"IDAT", content), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def animation(kind):
    first, second = noise(1), noise(2)
    return encoded(first, kind, save_all=True, append_images=[second])


BIG = noise(3, 64)
BAD = {
    "nothing": (b"", "cannot be read"),
    "text": (b"no image", "cannot be read"),
    "gif": (encoded(noise(1), "GIF"), "cannot be read"),
    "cut png": (encoded(BIG)[:600], "cannot be read"),
    "cut jpeg": (encoded(BIG, "JPEG")[:1500], "cannot be read"),
    "cut webp": (encoded(BIG, "WEBP")[:900], "cannot be read"),
    "flipped png": (encoded(BIG)[:300] + b"\0\1\2" + encoded(BIG)[303:], "cannot be read"),
    "16 bits": (png_of(16, 0), "more than 8 bits"),
    "16 bits in colour": (png_of(16, 2), "more than 8 bits"),
    "16 bits with alpha": (png_of(16, 6), "more than 8 bits"),
    "animated png": (animation("PNG"), "is animated"),
    "animated webp": (animation("WEBP"), "is animated"),
    "bomb": (png_of(8, 0, 10_000, b""), "more than 67108864 pixels"),
    "larger bomb": (png_of(8, 0, 20_000, b""), "decompression bomb"),
}

turned = Image.Exif()
turned[0x0112] = 6
ODD = {
    "cmyk": encoded(noise(4).convert("CMYK"), "JPEG"),
    "rotated": encoded(noise(4), exif=turned),
    "jpeg called png": encoded(noise(4), "JPEG"),
    "palette": encoded(noise(4).convert("P")),
    "one bit": encoded(noise(4).convert("1")),
    "alpha": encoded(noise(4).convert("RGBA")),
}


def bomb(kind):
    """A small file that needs much memory when decoded."""
    if kind == "png of 20000 x 20000":
        return png_of(8, 0, 20_000, b"")
    if kind == "webp of 16383 x 16383":
        content = bytearray(encoded(noise(1), "WEBP"))
        content[26:30] = struct.pack("<HH", 16383, 16383)  # of the key frame
        return bytes(content)
    if kind == "png with a gigabyte of text":
        text = b"comment\0\0" + packed(10**6, 1000)
        return png_of(8, 2, extra=(b"zTXt", text))
    return png_of(8, 2, 8192, packed(8192 * 3 + 1, 8192, level=9), is_packed=True)


def packed(width, count, level=9):
    """Compress zeros without holding them in memory."""
    packer = zlib.compressobj(level)
    return b"".join(packer.compress(bytes(width)) for _ in range(count)) + packer.flush()
