"""scikit-learn's scans of handwritten digits as ink: split without a leak, laid on any canvas."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.data.sources.loaded_source import stratified_split

SCANS_HELD_OUT = 1 / 3
"""Share of the scans of each digit that only held-out canvases show."""

_SIDE = 8  # of a scan
_MARGIN = 2  # blank pixels laid around a scan, so that interpolation never ends in ink

Array: TypeAlias = NDArray[np.float64]
Scans: TypeAlias = tuple[Array, ...]
"""For each of ten digits its scans: coverage with ink in [0, 1], `[n, 8, 8]`."""


@dataclass(frozen=True)
class Box:
    """Where a scan comes to lie: its middle, and the size it is scaled to, in pixels."""

    x: float
    y: float
    width: float
    height: float


def split_scans(seed: int) -> dict[str, Scans]:
    """The scans of "train" and "heldout", a third of those of each digit held out."""
    from sklearn.datasets import load_digits  # takes over a second, and few sources need it

    found = load_digits()
    digits = tuple(str(digit) for digit in range(10))
    sides = stratified_split(found.target.astype(np.int64), digits, SCANS_HELD_OUT, seed)
    return {
        side: tuple(found.images[rows][found.target[rows] == digit] / 16 for digit in range(10))
        for side, rows in sides.items()
    }


def with_margin(scans: Array) -> Array:
    """Scans `[n, 8, 8]` with the blank margin that `lay` needs around them."""
    return np.pad(scans, ((0, 0), (_MARGIN, _MARGIN), (_MARGIN, _MARGIN)))


def lay(scan: Array, size: int, box: Box) -> Array:
    """A scan in its margin, scaled smoothly: coverage with ink in [0, 1], `[size, size]`."""
    across, down, middle = _SIDE / box.width, _SIDE / box.height, len(scan) / 2
    laid = Image.fromarray(scan.astype(np.float32)).transform(
        (size, size),
        Image.Transform.AFFINE,
        (across, 0, middle - across * box.x, 0, down, middle - down * box.y),
        resample=Image.Resampling.BICUBIC,
    )
    coverage: Array = np.clip(np.asarray(laid, np.float64), 0, 1)
    return coverage * coverage * (3 - 2 * coverage)  # firmer edges than interpolation leaves


def between(low: float, high: float, share: float) -> float:
    """The number that lies at a share in [0, 1] of the way from low to high."""
    return low + (high - low) * share
