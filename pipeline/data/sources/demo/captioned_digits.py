"""Captioned images of one real digit scan in coloured ink on coloured paper.

A canvas is a function of (seed, split, row), so a larger data set does not change existing
canvases. Held-out canvases use scans that do not occur in training, in the same inks and wordings.
Captions can be parsed, and colours detected in images.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.config import CaptionedDigitsData
from pipeline.data.sources.captions import Caption
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
from pipeline.errors import DataError
from pipeline.randomness import RowRandom

T = TypeVar("T")

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

_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_TEMPLATES = (
    "a handwritten {digit}, {ink} ink on {paper} paper",
    "the digit {digit} written in {ink} on {paper} paper",
    "{ink} {digit} on {paper}",
    "{paper} paper with a {ink} {digit}",
    "a {ink} {digit} drawn by hand on {paper} paper",
    "on {paper} paper, the number {digit} in {ink} ink",
    "a scan of the number {digit}, {ink} on {paper}",
    "handwriting in {ink} ink: the digit {digit} on {paper}",
)

WORDINGS = 2 * len(_TEMPLATES)
"""Number of wordings: the templates with the digit as a word, then as a numeral."""

NUM_CLASSES = 10
_DRAWS = 14  # ink, paper, wording, scan, six for colour, four for position


@dataclass(frozen=True)
class Attributes:
    """The content of a caption: the digit, and the names of its ink and paper."""

    digit: int
    ink: str
    paper: str


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


def caption_text(attributes: Attributes, wording: int) -> str:
    """Generate a caption in wording 0 .. `WORDINGS` - 1."""
    numeral, template = divmod(wording, len(_TEMPLATES))
    digit = str(attributes.digit) if numeral else _WORDS[attributes.digit]
    return _TEMPLATES[template].format(digit=digit, ink=attributes.ink, paper=attributes.paper)


def read_attributes(text: str) -> Attributes:
    """Parse a caption generated by `caption_text`.

    Raises:
        DataError: the text is not such a caption.
    """
    for pattern in _PATTERNS:
        if found := pattern.fullmatch(text):
            word = found["digit"]
            digit = int(word) if word.isdecimal() else _WORDS.index(word)
            return Attributes(digit, found["ink"], found["paper"])
    raise DataError(
        f"{text!r} is not a caption of captioned_digits; use for example "
        f"{caption_text(Attributes(7, 'red', 'white'), 0)!r}"
    )


def _pattern(template: str) -> re.Pattern[str]:
    choices = {"digit": (*_WORDS, *map(str, range(10))), "ink": INKS, "paper": PAPERS}
    groups = {name: f"(?P<{name}>{'|'.join(words)})" for name, words in choices.items()}
    return re.compile(template.format(**groups))


_PATTERNS = tuple(map(_pattern, _TEMPLATES))


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


class CaptionedDigits(DataSource[CaptionedDigitsData]):
    """Captioned colour images of digits."""

    name: ClassVar[str] = "captioned_digits"

    def count(self) -> tuple[int, int]:
        """Return the numbers of the recipe; the classes are the ten digits."""
        return self.config.count + self.config.holdout_count, 10

    def open(self, seed: int) -> LoadedSource:
        """See `open_captioned_digits`."""
        return open_captioned_digits(self.config, seed)
