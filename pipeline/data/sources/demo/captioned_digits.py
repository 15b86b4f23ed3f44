"""Captioned images of one real digit scan in coloured ink on coloured paper.

A canvas is a function of (seed, split, row), so a larger data set does not change existing
canvases. Held-out canvases use scans that do not occur in training, in the same inks and wordings.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.config import CaptionedDigitsData
from pipeline.data.sources.captions import Caption
from pipeline.data.sources.demo.colours import INKS, PAPERS, VARIATION
from pipeline.data.sources.demo.digit_wording import WORDINGS, Attributes, caption_text
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
from pipeline.randomness import RowRandom

T = TypeVar("T")

NUM_CLASSES = 10
_DRAWS = 14  # ink, paper, wording, scan, six for colour, four for position


@dataclass(frozen=True)
class _Painter:
    """Paints and captions the canvases of one split.

    Attributes:
        size: side of a canvas in pixels.
        pools: the scans of this split, with margins.
        chances: all random numbers, uniform in (0, 1), `[canvases, draws]`.
    """

    size: int
    pools: Scans
    chances: Array

    def paint(self, row: int) -> NDArray[np.uint8]:
        """Paint the canvas at a row, uint8 `[3, size, size]`."""
        attributes = self._attributes(row)
        colour, place = self.chances[row, 4:10], self.chances[row, 10:].tolist()
        paper = PAPERS[attributes.paper] + VARIATION * (2 * colour[:3] - 1)
        ink = INKS[attributes.ink] + VARIATION * (2 * colour[3:] - 1)
        pool = self.pools[attributes.digit]
        scan = pool[int(self.chances[row, 3] * len(pool))]
        canvas = paper + self._placed(scan, place)[..., None] * (ink - paper)
        return np.rint(canvas).astype(np.uint8).transpose(2, 0, 1)

    def caption(self, row: int) -> Caption:
        """Generate the caption of the canvas at a row; canvases are not scaled or cropped."""
        wording = int(self.chances[row, 2] * WORDINGS)
        text = caption_text(self._attributes(row), wording)
        return Caption(text=text, original_size=(self.size, self.size), crop=(0, 0))

    def _attributes(self, row: int) -> Attributes:
        ink, paper = self.chances[row, :2]
        return Attributes(
            row % NUM_CLASSES, _chosen(tuple(INKS), ink), _chosen(tuple(PAPERS), paper)
        )

    def _placed(self, scan: Array, draws: list[float]) -> Array:
        height = self.size * interpolate(0.78, 0.92, draws[0])
        width = height / interpolate(1.0, 1.25, draws[1])
        middle = [
            self.size / 2 + (self.size - side) / 2 * interpolate(-0.8, 0.8, draw)
            for side, draw in zip((width, height), draws[2:], strict=True)
        ]
        return place_scan(
            scan, self.size, Box(x=middle[0], y=middle[1], width=width, height=height)
        )


def open_captioned_digits(config: CaptionedDigitsData, seed: int) -> LoadedSource:
    """Open the canvases of a recipe; each is painted when read."""
    return compose_captioned(config, seed, split_scans(seed))


def compose_captioned(
    config: CaptionedDigitsData, seed: int, scans: Mapping[str, Scans]
) -> LoadedSource:
    """Compose canvases from given scans of "train" and "heldout".

    Samples are the training canvases, then the held-out ones, both cycling through the digits. The
    splits list them shuffled.
    """
    first, total = config.count, config.count + config.holdout_count
    train = _painter(config.size, seed, "train", scans["train"], first)
    heldout = _painter(config.size, seed, "heldout", scans["heldout"], total - first)
    rows = np.arange(total)
    shuffle = np.random.default_rng([seed, 0])
    return LoadedSource(
        name=config.source,
        class_names=tuple(str(digit) for digit in range(NUM_CLASSES)),
        latent_shape=(3, config.size, config.size),
        encoding="png",
        labels=np.where(rows < first, rows, rows - first) % NUM_CLASSES,
        read=lambda row: train.paint(row) if row < first else heldout.paint(row - first),
        splits={
            "train": shuffle.permutation(first),
            "heldout": first + shuffle.permutation(total - first),
        },
        caption=lambda row: train.caption(row) if row < first else heldout.caption(row - first),
    )


def _painter(size: int, seed: int, split: str, scans: Scans, count: int) -> _Painter:
    chances = RowRandom((seed,), 0, count).uniform(f"{split} captioned digits", _DRAWS)
    return _Painter(size=size, pools=tuple(map(with_margin, scans)), chances=chances.numpy())


def _chosen(choices: Sequence[T], chance: float) -> T:
    return choices[int(chance * len(choices))]
