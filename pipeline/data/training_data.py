"""Training data: clean samples with their conditions, and the shuffled order of their rows.

The order is a function of the position, so that a resume needs one number.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.tensors import Condition, Latent


@dataclass(frozen=True)
class Batch:
    """Clean samples from the data.

    Attributes:
        x: samples, float32 `[b, *latent]`, pixels in [-1, 1].
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


class Order:
    """An endless sequence of shuffled epochs over `size` rows.

    Position p is row `permutation(p // size)[p % size]`; each epoch's permutation is a pure
    function of (seed, epoch). The order does not depend on workers, chunk sizes or interruptions.
    """

    def __init__(self, seed: int, size: int) -> None:
        if seed < 0 or size < 1:
            raise ValueError(f"an order needs seed >= 0 and size >= 1, got {seed} and {size}")
        self._seed = seed
        self._size = size
        self._known: dict[int, NDArray[np.int64]] = {}

    def rows(self, first: int, count: int) -> NDArray[np.int64]:
        """Return the rows at positions first .. first + count - 1, int64 `[count]`."""
        if first < 0 or count < 0:
            raise ValueError(f"first and count must be >= 0, got first {first} and count {count}")
        parts = [np.empty(0, np.int64)]
        while count:
            epoch, start = divmod(first, self._size)
            part = self._permutation(epoch)[start : start + count]
            parts.append(part)
            first += len(part)
            count -= len(part)
        return np.concatenate(parts)

    def _permutation(self, epoch: int) -> NDArray[np.int64]:
        if epoch not in self._known:
            # a batch can span two epochs, so the previous permutation is kept
            self._known = {k: v for k, v in self._known.items() if k == epoch - 1}
            generator = np.random.default_rng([self._seed, epoch])
            self._known[epoch] = generator.permutation(self._size).astype(np.int64)
        return self._known[epoch]
