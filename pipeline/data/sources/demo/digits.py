"""scikit-learn's handwritten digits, 8x8 pixels."""

from typing import ClassVar

import numpy as np

from pipeline.config import DigitsData
from pipeline.data.sources.loaded_source import LoadedSource, stratified_split
from pipeline.data.sources.source import DataSource


class Digits(DataSource[DigitsData]):
    """The 1,797 scans, of ten classes."""

    name: ClassVar[str] = "digits"

    def count(self) -> tuple[int, int]:
        """Return 1,797 scans of ten classes."""
        return 1797, 10

    def open(self, seed: int) -> LoadedSource:
        """Load the scans."""
        from sklearn.datasets import load_digits  # slow import (over 1 s), needed here only

        scans = load_digits()
        images = np.rint(scans.images * (255 / 16)).astype(np.uint8)[:, None]  # ink is 0..16
        labels = scans.target.astype(np.int64)
        names = tuple(str(digit) for digit in range(10))
        return LoadedSource(
            name=self.name,
            class_names=names,
            latent_shape=(1, 8, 8),
            encoding="png",
            labels=labels,
            read=images.__getitem__,
            splits=stratified_split(labels, names, self.config.holdout, seed),
        )
