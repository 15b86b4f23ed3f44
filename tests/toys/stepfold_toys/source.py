"""Points on circles, as a data source of its own."""

import math
from typing import ClassVar, Literal

import numpy as np
from pydantic import PositiveInt

from pipeline.config import DataConfig, NetworkConfig
from pipeline.data.sources.loaded_source import LoadedSource, stratified_split
from pipeline.data.sources.source import DataSource
from pipeline.shapes import LatentShape


class RingsConfig(DataConfig):
    """Settings of the source."""

    encoding: ClassVar[Literal["png", "npy"] | None] = "npy"

    source: Literal["rings"]

    points: PositiveInt = 200
    """Points of all circles together."""

    axes: tuple[PositiveInt, ...] = (1, 1)
    """Axes of a sample besides its two channels; along them the circle grows."""

    holdout: float = 0.25
    shard_size: PositiveInt = 100

    def sample_shape(self, network: NetworkConfig) -> LatentShape:
        """Two coordinates, at every place of the axes."""
        return (2, *self.axes)


class Rings(DataSource[RingsConfig]):
    """Two circles, each a class."""

    name: ClassVar[str] = "rings"

    def count(self) -> tuple[int, int]:
        """Points and circles."""
        return self.config.points, 2

    def open(self, seed: int) -> LoadedSource:
        """Draw the points."""
        labels = np.arange(self.config.points) % 2
        angle = np.random.default_rng(seed).uniform(0, 2 * np.pi, len(labels))
        circle = np.stack([np.cos(angle), np.sin(angle)], 1) * (1 + labels[:, None])
        growth = 1 + np.arange(math.prod(self.config.axes)) / 8
        points = (circle[..., None] * growth).astype(np.float32).reshape(-1, 2, *self.config.axes)
        names = ("inner", "outer")
        return LoadedSource(
            name=self.name,
            class_names=names,
            latent_shape=(2, *self.config.axes),
            encoding="npy",
            labels=labels,
            read=points.__getitem__,
            splits=stratified_split(labels, names, self.config.holdout, seed),
        )
