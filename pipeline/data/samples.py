"""What training asks of a data set, whatever is stored: clean samples, and their conditions."""

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from pipeline.data.batch import Batch
from pipeline.tensors import Condition


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
