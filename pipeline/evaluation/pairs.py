"""Samples in pairs: the teacher's above, the student's below it, from the same noise."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from pipeline.evaluation.sampling import Images

_TILE = 72  # pixels; larger pictures are reduced to twice that
_GAP = 6
_LINE = 20
_ACROSS = 5  # nearly square, as charts are
_NARROWEST = 300
_SIDE = 300
_INK, _TEACHER, _STUDENT = (34, 38, 46), (150, 155, 165), (42, 111, 176)


def draw_pairs(title: str, rows: Sequence[tuple[str, Images]]) -> Image.Image | None:
    """One or two rows with their names; None for what is neither images nor points of a plane.

    Points are drawn in one square, a line from each of the first row's to its own of the last.
    """
    height, width, channels = rows[0][1].shape[1:]
    if (height, width, channels) == (1, 1, 2):
        return _plane(title, rows)
    if channels not in {1, 3} or height * width == 1:
        return None
    tiles = [[_tile(image) for image in images] for _, images in rows]
    wide, tall = tiles[0][0].size
    lines = -(-len(tiles[0]) // _ACROSS)
    block = len(rows) * (tall + 1) + _GAP  # a line of pairs
    head = _LINE * (1 + len(rows))
    size = (_ACROSS * (wide + _GAP) + _GAP, head + lines * block + _GAP)
    canvas = Image.new("RGB", (max(size[0], _NARROWEST), size[1]), "white")
    write = ImageDraw.Draw(canvas)
    write.text((_GAP, 3), title, fill=_INK, font=_font(14))
    for number, ((name, _), pictures) in enumerate(zip(rows, tiles, strict=True)):
        said = name if len(rows) == 1 else f"{('above', 'below')[number]}: {name}"
        write.text((_GAP, _LINE * (1 + number)), said, fill=_INK, font=_font(12))
        for index, picture in enumerate(pictures):
            line, place = divmod(index, _ACROSS)
            top = head + line * block + number * (tall + 1) + _GAP
            canvas.paste(picture, (_GAP + place * (wide + _GAP), top))
    return canvas


def _tile(image: np.ndarray) -> Image.Image:
    pixels: UInt8[np.ndarray, "h w c"] = np.rint((image.clip(-1, 1) + 1) * 127.5).astype(np.uint8)
    picture = Image.fromarray(pixels.squeeze()).convert("RGB")
    longest = max(picture.size)
    zoom = max(1, _TILE // longest)
    if zoom > 1:
        size = (picture.width * zoom, picture.height * zoom)
        return picture.resize(size, Image.Resampling.NEAREST)
    picture.thumbnail((2 * _TILE, 2 * _TILE))
    return picture


def _plane(title: str, rows: Sequence[tuple[str, Images]]) -> Image.Image:
    sets = [images.reshape(-1, 2).astype(np.float64) for _, images in rows]
    least, most = sets[0].min(0), sets[0].max(0)
    margin = 0.2 * max(float((most - least).max()), 1e-6)
    scale = _SIDE / (float((most - least).max()) + 2 * margin)
    canvas = Image.new("RGB", (_SIDE + 2 * _GAP, _SIDE + _LINE * (1 + len(rows))), "white")
    write = ImageDraw.Draw(canvas)
    write.text((_GAP, 3), title, fill=_INK, font=_font(14))
    placed = [((points - least + margin) * scale) + (_GAP, _LINE) for points in sets]
    for first, last in zip(placed[0].tolist(), placed[-1].tolist(), strict=True):
        write.line([tuple(first), tuple(last)], fill=_TEACHER, width=1)
    for number, ((name, _), points) in enumerate(zip(rows, placed, strict=True)):
        colour = _TEACHER if number == 0 and len(rows) > 1 else _STUDENT
        for x, y in points.tolist():
            write.ellipse([x - 4, y - 4, x + 4, y + 4], fill=colour)
        below = _SIDE + _LINE * (1 + number)
        write.text((_GAP, below), name, fill=colour, font=_font(12))
    return canvas


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
