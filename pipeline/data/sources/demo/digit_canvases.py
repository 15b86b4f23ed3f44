"""Numbers of two or three real digit scans on a coloured canvas.

Scans are split before canvases are composed, and each canvas uses scans of one split only, so no
held-out scan occurs in training. A canvas is a function of (seed, split, row), so a larger data set
does not change existing canvases.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.config import DigitCanvasesData
from pipeline.data.sources.demo.scans import (
    Array,
    Box,
    Scans,
    interpolate,
    place_scan,
    split_scans,
    with_margin,
)
from pipeline.data.sources.loaded_source import LoadedSource
from pipeline.data.sources.source import DataSource
from pipeline.randomness import RowRandom

_FILLED = 0.95  # fraction of the canvas width for digit cells, so that no edge cuts ink
_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
_ON_DARK = {"paper": (0.06, 0.24), "ink": (0.64, 0.9)}
_ON_LIGHT = {"paper": (0.8, 0.96), "ink": (0.08, 0.4)}


@dataclass(frozen=True)
class _Painter:
    """Paints the canvases of one split.

    Attributes:
        config: the numbers, and the side of a canvas.
        pools: the scans of this split, with margins.
        chances: all random numbers, uniform in (0, 1), `[canvases, draws]`.
    """

    config: DigitCanvasesData
    pools: Scans
    chances: Array

    def paint(self, row: int) -> NDArray[np.uint8]:
        """Paint the canvas at a row, uint8 `[3, size, size]`; its class is row mod num_classes."""
        size, classes = self.config.size, self.config.classes
        draws = iter(self.chances[row].tolist())
        tone = _ON_DARK if next(draws) < 0.5 else _ON_LIGHT
        canvas = np.broadcast_to(_colour(next(draws), next(draws), tone["paper"]), (size, size, 3))
        line = next(draws)
        for place, digit in enumerate(_written(classes[row % len(classes)], self.config)):
            pool = self.pools[int(digit)]
            scan = pool[int(next(draws) * len(pool))]
            ink = _colour(next(draws), next(draws), tone["ink"])
            coverage = self._placed(scan, place, line, [next(draws) for _ in range(4)])
            canvas = canvas + coverage[..., None] * (ink - canvas)
        return np.rint(255 * canvas).astype(np.uint8).transpose(2, 0, 1)

    def _placed(self, scan: Array, place: int, line: float, draws: list[float]) -> Array:
        """Scale a scan and place it with random offsets; all digits share a base line."""
        size, digits = self.config.size, self.config.digits
        cell = _FILLED * size / digits
        width = cell * interpolate(0.86, 1.0, draws[0])
        height = width * interpolate(1.15, 1.4, draws[1])
        play = (size - height) / 2
        x = size / 2 + cell * (place - (digits - 1) / 2 + interpolate(-0.05, 0.05, draws[2]))
        y = size / 2 + play * (interpolate(-0.5, 0.5, line) + interpolate(-0.35, 0.35, draws[3]))
        return place_scan(scan, size, Box(x=x, y=y, width=width, height=height))


def open_canvases(config: DigitCanvasesData, seed: int) -> LoadedSource:
    """Open the canvases of a recipe; each is painted when read."""
    return compose_canvases(config, seed, split_scans(seed))


def compose_canvases(
    config: DigitCanvasesData, seed: int, scans: Mapping[str, Scans]
) -> LoadedSource:
    """Compose canvases from given scans of "train" and "heldout".

    Samples are the training canvases, then the held-out ones, cycling through the classes. The
    splits list them shuffled.
    """
    num_classes = len(config.classes)
    first = num_classes * config.per_class
    total = first + num_classes * config.holdout_per_class
    train = _painter(config, seed, "train", scans["train"], first)
    heldout = _painter(config, seed, "heldout", scans["heldout"], total - first)
    shuffle = np.random.default_rng([seed, 0])
    return LoadedSource(
        name=config.source,
        class_names=tuple(_written(number, config) for number in config.classes),
        latent_shape=(3, config.size, config.size),
        encoding="png",
        labels=np.arange(total) % num_classes,  # both splits are whole cycles of classes
        read=lambda row: train.paint(row) if row < first else heldout.paint(row - first),
        splits={
            "train": shuffle.permutation(first),
            "heldout": first + shuffle.permutation(total - first),
        },
    )


def _painter(
    config: DigitCanvasesData, seed: int, split: str, scans: Scans, count: int
) -> _Painter:
    random = RowRandom((seed,), 0, count)
    return _Painter(
        config=config,
        pools=tuple(map(with_margin, scans)),
        chances=random.uniform(f"{split} canvases", 4 + 7 * config.digits).numpy(),
    )


def _written(number: int, config: DigitCanvasesData) -> str:
    return f"{number:0{config.digits}d}"


def _colour(hue: float, luma: float, allowed: tuple[float, float]) -> Array:
    """Compute the RGB of a hue, mixed with black or white to a luma in the allowed range."""
    pure: Array = np.clip(np.abs((6 * hue + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    wanted, own = interpolate(*allowed, luma), float(_LUMA @ pure)
    towards = np.zeros(3) if wanted < own else np.ones(3)
    share = (wanted - own) / (float(towards[0]) - own)
    mixed: Array = pure + share * (towards - pure)
    return mixed


class DigitCanvases(DataSource[DigitCanvasesData]):
    """Colour images of numbers."""

    name: ClassVar[str] = "digit_canvases"

    def count(self) -> tuple[int, int]:
        """Return the numbers of the recipe."""
        classes = len(self.config.classes)
        return classes * (self.config.per_class + self.config.holdout_per_class), classes

    def open(self, seed: int) -> LoadedSource:
        """See `open_canvases`."""
        return open_canvases(self.config, seed)
