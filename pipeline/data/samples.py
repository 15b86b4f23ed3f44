"""The interface of training data: clean samples and their conditions."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.tensors import Condition, Latent


@dataclass(frozen=True)
class Batch:
    """Clean samples from the data.

    Attributes:
        x: samples, float32 `[b, channels, height, width]`, pixels in [-1, 1].
        condition: conditioning inputs, one row per sample.
    """

    x: Latent
    condition: Condition


class Samples(ABC):
    """One split of a sharded data set, read by row in any order."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of samples in the split."""

    @property
    @abstractmethod
    def null(self) -> Condition | None:
        """The null condition, one row; None for the class index after the last class."""

    @abstractmethod
    def read(self, rows: NDArray[np.int64]) -> Batch:
        """Read the samples at `rows`, in that order, with their conditions.

        Raises:
            IndexError: a row is negative or past the end.
            DataError: a sample does not match the data set's description.
        """

    @abstractmethod
    def conditions(self, rows: NDArray[np.int64]) -> Condition:
        """Read the conditions at `rows` alone, which target records do not store.

        Raises:
            IndexError: a row is negative or past the end.
            DataError: a condition does not match the data set's description.
        """
