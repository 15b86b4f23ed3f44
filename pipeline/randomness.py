"""Counter-based random numbers, independent of workers, chunking and interruptions.

Every draw is a pure function of (seed path, name, row): Philox is a counter-based generator, so
the numbers of rows 1000..1063 are computed directly, without drawing the rows before them. A tuple
gets the same noise for any number of workers, any chunk size, and after an interruption.
"""

import math
import zlib
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Int64
from numpy.typing import NDArray
from torch import Tensor

_WORDS_PER_COUNTER = 4
_BLOCK = 2**15  # words whose intermediate results stay in a core's cache


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
        raw = self._words(name, words).view(np.uint64)
        unit = ((raw >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
        return torch.from_numpy(np.ascontiguousarray(unit[:, :words])).reshape(self.count, *shape)

    def normal(self, name: str, *shape: int, device: torch.device | str = "cpu") -> Tensor:
        """Draw standard normal numbers, float32 `[count, *shape]`, by the method of Box and Muller.

        Each 64-bit word gives two numbers, of absolute value at most 6.66 (2.7e-11 of the normal
        distribution lies beyond). On CUDA the words are the same and the numbers agree with a
        CPU's within the rounding of its logarithm, sine and cosine.

        Source: Box & Muller 1958, A note on the generation of random normal deviates.
        """
        numbers = math.prod(shape)
        pairs = -(-numbers // 2)  # a word gives two numbers
        normal = torch.empty(self.count, numbers, device=device)
        if normal.device.type == "cpu":
            block = max(1, _BLOCK // max(1, pairs))
            for start in range(0, self.count, block):
                rows = replace(self, first=self.first + start, count=min(block, self.count - start))
                words = torch.from_numpy(rows._words(name, pairs))
                normal[start : start + block] = box_muller(words)[:, :numbers]
        else:
            normal[:] = box_muller(self._words_on(normal.device, name, pairs))[:, :numbers]
        return normal.reshape(self.count, *shape)

    def integers(self, name: str, high: int, *shape: int) -> Tensor:
        """Draw integers in [0, high), int64 `[count, *shape]`."""
        return (self.uniform(name, *shape) * high).long()

    def _words(self, name: str, per_row: int) -> NDArray[np.int64]:
        """Compute at least `per_row` random 64-bit words of each row, `[count, words]`."""
        counters = -(-per_row // _WORDS_PER_COUNTER)
        generator = np.random.Philox(key=self._key(name), counter=self.first * counters)
        raw = generator.random_raw(self.count * counters * _WORDS_PER_COUNTER)
        return raw.view(np.int64).reshape(self.count, counters * _WORDS_PER_COUNTER)

    def _words_on(
        self, device: torch.device, name: str, per_row: int
    ) -> Int64[Tensor, "rows words"]:
        """Compute the words of `_words` on a device."""
        counters = -(-per_row // _WORDS_PER_COUNTER)
        first, count = self.first * counters, self.count * counters
        return philox(self._key(name), first, count, device).reshape(
            self.count, counters * _WORDS_PER_COUNTER
        )

    def _key(self, name: str) -> NDArray[np.uint64]:
        sequence = np.random.SeedSequence([*self.path, zlib.crc32(name.encode())])
        key: NDArray[np.uint64] = sequence.generate_state(2, np.uint64).astype(np.uint64)
        return key


def box_muller(words: Int64[Tensor, "rows words"]) -> Tensor:
    """Turn random 64-bit words into twice as many normal numbers, float32 `[rows, 2 * words]`.

    The low half of a word gives the radius, from 31 bits (near 0, where the logarithm is steep,
    float32 holds all of them), and the high half the angle.
    """
    halves = words.contiguous().view(torch.int32).reshape(*words.shape, 2)
    unit = (halves[..., 0] & 0x7FFFFFFF).float().add_(0.5).mul_(2.0**-31)
    radius = unit.log_().mul_(-2).sqrt_()
    angle = halves[..., 1].float().mul_(2 * math.pi * 2.0**-32)
    normal = torch.empty(*words.shape, 2, device=words.device)
    torch.mul(radius, angle.cos(), out=normal[..., 0])
    torch.mul(radius, angle.sin_(), out=normal[..., 1])
    return normal.flatten(1)


_MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
_WEYL = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
_ROUNDS = 10


def philox(
    key: NDArray[np.uint64], first: int, count: int, device: torch.device
) -> Int64[Tensor, "count 4"]:
    """Compute the words of Philox4x64-10 for `count` counters, as numpy's generator gives them.

    For devices whose own generators have no such counter. numpy raises its counter before it
    computes the words, so its first words belong to counter `first + 1`.

    Args:
        key: the two words of the key.
        first: numpy's counter at the start, in [0, 2^62).
        count: number of counters.
        device: where the words are computed.

    Source: Salmon et al. 2011, Parallel random numbers: as easy as 1, 2, 3.
    """
    counter = torch.arange(first + 1, first + 1 + count, dtype=torch.int64, device=device)
    zero = torch.zeros_like(counter)
    words = [counter, zero, zero, zero]
    keys = [int(each) for each in key]
    for _ in range(_ROUNDS):
        high_0, low_0 = _multiply(words[0], _MULTIPLIERS[0])
        high_1, low_1 = _multiply(words[2], _MULTIPLIERS[1])
        words = [
            high_1 ^ words[1] ^ _signed(keys[0]),
            low_1,
            high_0 ^ words[3] ^ _signed(keys[1]),
            low_0,
        ]
        keys = [(each + step) % 2**64 for each, step in zip(keys, _WEYL, strict=True)]
    return torch.stack(words, dim=1)


def _multiply(word: Tensor, by: int) -> tuple[Tensor, Tensor]:
    """Multiply unsigned 64-bit integers (held as int64) and return the high and low halves.

    The high half is put together from products of 32-bit halves, which wrap nowhere.
    """
    low, high = word & 0xFFFFFFFF, _shifted(word)
    by_low, by_high = by & 0xFFFFFFFF, by >> 32
    lowest = low * by_low
    middle = high * by_low + _shifted(lowest)
    other = low * by_high + (middle & 0xFFFFFFFF)
    return high * by_high + _shifted(middle) + _shifted(other), word * _signed(by)


def _shifted(word: Tensor) -> Tensor:
    """Shift unsigned 64-bit integers (held as int64) right by 32 bits."""
    return (word >> 32) & 0xFFFFFFFF


def _signed(word: int) -> int:
    """Return the int64 with the bits of an unsigned 64-bit integer."""
    return word - 2**64 if word >= 2**63 else word
