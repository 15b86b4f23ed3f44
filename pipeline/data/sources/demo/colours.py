"""Named ink and paper colours, and their detection in images."""

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
"""Mean RGB of every ink; distinct even after `VARIATION` in both."""

PAPERS = {
    "white": (247, 247, 245),
    "pale yellow": (247, 236, 150),
    "pink": (247, 184, 204),
    "pale blue": (174, 208, 247),
    "pale green": (172, 234, 176),
}
"""Mean RGB of every paper; distinct even after `VARIATION` in both."""

VARIATION = 8
"""Maximum deviation of each colour channel from its mean, of 255."""

_INK_PIXELS = 6  # pixels in the middle of the stroke, in the digit with the least ink
_MIN_COVERAGE = 0.7  # ink coverage of such a pixel; the rest is paper


class Colours(NamedTuple):
    """The detected ink and paper names of n images, `[n]` each."""

    ink: NDArray[np.str_]
    paper: NDArray[np.str_]


def detect_colours(pixels: NDArray[np.floating]) -> Colours:
    """Detect ink and paper of images by their colours.

    The paper is the median of the border pixels. The ink is the median of the few pixels that
    differ most from the paper. Thin strokes do not cover pixels fully, so inks are compared as
    mixtures with the paper in the best-fitting proportion.

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
    share = np.clip((seen * pure).sum(-1) / np.square(pure).sum(-1), _MIN_COVERAGE, 1)
    off = np.square(seen - share[..., None] * pure).sum(-1)
    sheets = np.array(list(PAPERS.values()), np.float64)
    return Colours(
        ink=np.array(list(INKS))[off.argmin(1)],
        paper=np.array(list(PAPERS))[np.square(paper[:, None] - sheets).sum(-1).argmin(1)],
    )
