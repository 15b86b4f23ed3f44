"""Samples of Gaussian classes, for which the teacher is exact."""

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.config import GaussianData
from pipeline.config.teacher import ClassLaw
from pipeline.data.sources.loaded_source import LoadedSource, stratified_split
from pipeline.data.sources.source import DataSource
from pipeline.errors import ConfigError
from pipeline.randomness import RowRandom


class Gaussian(DataSource[GaussianData]):
    """Points of the distribution that the teacher's network defines."""

    name: ClassVar[str] = "gaussian"

    def count(self) -> tuple[int, int]:
        """Return the number of points of the recipe, and of means of the network."""
        return self.config.num_samples, len(self._law.means)

    def identity(self) -> dict[str, Any]:
        """Return the distribution."""
        return {"law": {"means": self._law.means, "std": self._law.std}}

    def open(self, seed: int) -> LoadedSource:
        """Draw the points."""
        means = np.array(self._law.means, np.float64)
        num_classes, size = means.shape
        count = self.config.num_samples
        labels = np.arange(count, dtype=np.int64) % num_classes
        noise = RowRandom((seed,), 0, count).normal("gaussian data", size).numpy()
        drawn: NDArray[np.float32] = (means[labels] + self._law.std * noise).astype(np.float32)
        samples = drawn.reshape(-1, size, 1, 1)
        names = tuple(str(label) for label in range(num_classes))
        return LoadedSource(
            name=self.name,
            class_names=names,
            latent_shape=(size, 1, 1),
            encoding="npy",
            labels=labels,
            read=samples.__getitem__,
            splits=stratified_split(labels, names, self.config.holdout, seed),
        )

    @property
    def _law(self) -> ClassLaw:
        if self.network.class_law is None:
            raise ConfigError(
                "data.source: gaussian needs teacher.network.family: gaussian, got "
                f"{self.network.family!r}; change one of them"
            )
        return self.network.class_law
