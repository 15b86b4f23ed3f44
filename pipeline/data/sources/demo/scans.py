"""scikit-learn's scans of handwritten digits: split without leakage and placed on a canvas."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.data.sources.loaded_source import stratified_split

SCANS_HELD_OUT = 1 / 3
"""Fraction of the scans of each digit that is used in held-out canvases only."""

_SIDE = 8  # pixels of a scan
_MARGIN = 2  # blank pixels around a scan, so that interpolation never ends in ink

Array: TypeAlias = NDArray[np.float64]
Scans: TypeAlias = tuple[Array, ...]
"""The scans of each of ten digits: ink coverage in [0, 1], `[n, 8, 8]`."""


@dataclass(frozen=True)
class Box:
    """Target position of a scan: its centre and scaled size, in pixels."""

    x: float
    y: float
    width: float
    height: float


def split_scans(seed: int) -> dict[str, Scans]:
    """Split the scans into "train" and "heldout"; a third of each digit's scans is held out."""
    from sklearn.datasets import load_digits  # slow import (over 1 s), needed by few sources

    found = load_digits()
    digits = tuple(str(digit) for digit in range(10))
    sides = stratified_split(found.target.astype(np.int64), digits, SCANS_HELD_OUT, seed)
    return {
        side: tuple(found.images[rows][found.target[rows] == digit] / 16 for digit in range(10))
        for side, rows in sides.items()
    }


def with_margin(scans: Array) -> Array:
    """Add the blank margin that `place_scan` needs to scans `[n, 8, 8]`."""
    return np.pad(scans, ((0, 0), (_MARGIN, _MARGIN), (_MARGIN, _MARGIN)))


def place_scan(scan: Array, size: int, box: Box) -> Array:
    """Scale and place a scan with margin: ink coverage in [0, 1], `[size, size]`."""
    across, down, middle = _SIDE / box.width, _SIDE / box.height, len(scan) / 2
    laid = Image.fromarray(scan.astype(np.float32)).transform(
        (size, size),
        Image.Transform.AFFINE,
        (across, 0, middle - across * box.x, 0, down, middle - down * box.y),
        resample=Image.Resampling.BICUBIC,
    )
    coverage: Array = np.clip(np.asarray(laid, np.float64), 0, 1)
    return coverage * coverage * (3 - 2 * coverage)  # sharpens the interpolated edges


def interpolate(low: float, high: float, share: float) -> float:
    """Interpolate linearly from low (share 0) to high (share 1)."""
    return low + (high - low) * share
