"""Inks and papers by name: what colours they have, and which of them an image shows."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

INKS = {
    "red": (215, 20, 35),
    "green": (15, 130, 50),
    "blue": (25, 60, 215),
    "purple": (135, 25, 165),
    "black": (18, 18, 22),
    "brown": (118, 70, 20),
}
"""Mean RGB of every ink; any two are further apart than `VARIATION` can bring them together."""

PAPERS = {
    "white": (247, 247, 245),
    "pale yellow": (247, 236, 150),
    "pink": (247, 184, 204),
    "pale blue": (174, 208, 247),
    "pale green": (172, 234, 176),
}
"""Mean RGB of every paper, likewise."""

VARIATION = 8
"""By how much each channel of a colour may differ from its mean."""

_INK_PIXELS = 6  # the digit with the least ink has that many in its stroke's middle
_LEAST_INK = 0.7  # of what covers such a pixel, the rest is paper


class Look(NamedTuple):
    """The names of inks and papers, `[n]` each, of n images."""

    ink: NDArray[np.str_]
    paper: NDArray[np.str_]


def look(pixels: NDArray[np.floating]) -> Look:
    """Which ink stands on which paper, by colours alone.

    The paper is the median of the outermost pixels. The ink is the median of the few pixels that
    differ most from it; since a thin stroke lets paper through, inks are compared as mixed with
    that paper in the share that fits best.

    Args:
        pixels: `[n, h, w, 3]` in [-1, 1].
    """
    rgb = (np.asarray(pixels, np.float64) + 1) * 127.5
    border = [rgb[:, 0], rgb[:, -1], rgb[:, 1:-1, 0], rgb[:, 1:-1, -1]]
    paper = np.median(np.concatenate(border, axis=1), axis=1)
    flat = rgb.reshape(len(rgb), rgb.shape[1] * rgb.shape[2], 3)
    away = np.square(flat - paper[:, None]).sum(-1)
    furthest = np.argpartition(away, -_INK_PIXELS, axis=1)[:, -_INK_PIXELS:, None]
    ink = np.median(np.take_along_axis(flat, furthest, axis=1), axis=1)
    pure = np.array(list(INKS.values()), np.float64) - paper[:, None]
    seen = (ink - paper)[:, None]
    share = np.clip((seen * pure).sum(-1) / np.square(pure).sum(-1), _LEAST_INK, 1)
    off = np.square(seen - share[..., None] * pure).sum(-1)
    sheets = np.array(list(PAPERS.values()), np.float64)
    return Look(
        ink=np.array(list(INKS))[off.argmin(1)],
        paper=np.array(list(PAPERS))[np.square(paper[:, None] - sheets).sum(-1).argmin(1)],
    )
