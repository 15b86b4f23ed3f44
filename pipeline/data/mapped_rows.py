"""Rows of bytes from many mapped files, gathered by one call of numpy.

A batch of training takes every row from another place in another file. A slice per row and column
costs a microsecond of Python each, as much as the copying itself at the size of latents. The
mappings all lie in one address space, so one array is laid over the addresses from the first to the
last of them, and a row is an index into it.
"""

from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]


class MappedRows:
    """Several pieces of memory, read as one.

    What lies between the pieces is not theirs, and no caller can be kept from asking for it: a
    place must come from a table that was checked against the sizes of the pieces.
    """

    def __init__(self, pieces: Sequence[memoryview]) -> None:
        """Lay one array over all pieces, which it keeps alive; at least one, none empty."""
        self._pieces = [np.frombuffer(piece, np.uint8) for piece in pieces]
        starts = np.array([piece.ctypes.data for piece in self._pieces], np.int64)
        ends = starts + [len(piece) for piece in self._pieces]
        self._lowest = self._pieces[int(starts.argmin())]
        self._extent = int(ends.max() - starts.min())
        self.bases = starts - starts.min()
        """Where each piece starts, for `gather`."""

    def gather(self, places: NDArray[np.int64], width: int) -> Bytes:
        """Copies of the `width` >= 1 bytes from each place on: `[len(places), width]`.

        Args:
            places: a piece's base plus an offset in it, such that the row ends inside the piece.
            width: bytes of a row.
        """
        rows = (self._extent - width + 1, width)
        every = as_strided(self._lowest, shape=rows, strides=(1, 1), writeable=False)
        copies: Bytes = every[places]
        return copies
