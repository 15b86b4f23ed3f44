"""Counter-based random numbers, independent of workers, chunking and interruptions.

Every draw is a pure function of (seed path, name, row): Philox is a counter-based generator, so
the numbers of rows 1000..1063 are computed directly, without drawing the rows before them. A tuple
gets the same noise for any number of workers, any chunk size, and after an interruption.
"""

import math
import zlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

_WORDS_PER_COUNTER = 4


@dataclass(frozen=True)
class RowRandom:
    """Random numbers of `count` consecutive rows starting at row `first` of the stream `path`.

    Attributes:
        path: key of the stream, for example (run seed, round index).
        first: index of the first row (a tuple index or a position in training), >= 0.
        count: number of rows.
    """

    path: tuple[int, ...]
    first: int
    count: int

    def uniform(self, name: str, *shape: int) -> Tensor:
        """Draw uniform numbers in (0, 1), float64 `[count, *shape]`; `name` selects the sub-stream.

        Values are the midpoints of 2^52 equal cells, so 0 and 1 cannot occur, even by rounding.
        """
        words = math.prod(shape)
        counters = -(-words // _WORDS_PER_COUNTER)
        key = np.random.SeedSequence([*self.path, zlib.crc32(name.encode())])
        generator = np.random.Philox(
            key=key.generate_state(2, np.uint64), counter=self.first * counters
        )
        raw = generator.random_raw(self.count * counters * _WORDS_PER_COUNTER)
        unit = ((raw >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
        rows = unit.reshape(self.count, counters * _WORDS_PER_COUNTER)[:, :words]
        return torch.from_numpy(np.ascontiguousarray(rows)).reshape(self.count, *shape)

    def normal(self, name: str, *shape: int) -> Tensor:
        """Draw standard normal numbers, float32 `[count, *shape]`, by the inverse distribution."""
        normal: Tensor = torch.special.ndtri(self.uniform(name, *shape))
        return normal.float()

    def integers(self, name: str, high: int, *shape: int) -> Tensor:
        """Draw integers in [0, high), int64 `[count, *shape]`."""
        return (self.uniform(name, *shape) * high).long()
