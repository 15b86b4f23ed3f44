"""What the data gives to a round: clean samples and what they are conditioned on."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.tensors import Condition, Latent


@dataclass(frozen=True)
class Batch:
    """Clean samples from the data.

    Attributes:
        x: `[b, channels, height, width]` float32, pixels in [-1, 1].
        condition: what each sample is conditioned on.
    """

    x: Latent
    condition: Condition


class Samples(ABC):
    """One split of a sharded data set, read by row in any order."""

    @abstractmethod
    def __len__(self) -> int:
        """Samples in the split."""

    @property
    @abstractmethod
    def null(self) -> Condition | None:
        """One row of the condition "nothing"; None where that is the class after the last."""

    @abstractmethod
    def read(self, rows: NDArray[np.int64]) -> Batch:
        """The samples at `rows`, in that order, with their conditions.

        Raises:
            IndexError: a row is negative or past the end.
            DataError: a sample is not what the data set says it holds.
        """

    @abstractmethod
    def conditions(self, rows: NDArray[np.int64]) -> Condition:
        """Their conditions alone, which target records leave to the data set.

        Raises:
            IndexError: a row is negative or past the end.
            DataError: a condition is not what the data set says it holds.
        """
