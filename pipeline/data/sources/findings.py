"""Notes on usable samples: transparent pixels, and copies of other samples."""

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.wording import format_count, format_integer


@dataclass
class Findings:
    """Findings in the usable samples of one source.

    Attributes:
        kind: a sample in words, such as `image`.
        total: number of usable samples.
        name: function from index to the name of a sample, relative to the source.
        background: what transparent pixels are filled with.
        with_alpha: images whose header has an alpha channel.
        transparent: decoded images with transparent pixels; None before any was decoded.
        copies: samples whose content an earlier sample has.
        crossing: samples whose content lies in more than one class.
    """

    kind: str = "sample"
    total: int = 0
    name: Callable[[int], str] = str
    background: str = "white"
    with_alpha: Collection[int] = ()
    transparent: set[int] | None = None
    copies: Collection[int] = ()
    crossing: Collection[int] = field(default=())

    def note_decoded(self, index: int, *, transparent: bool) -> None:
        """Note whether a decoded image has transparent pixels."""
        self.transparent = self.transparent or set()
        if transparent:
            self.transparent.add(index)

    @property
    def sentences(self) -> tuple[str, ...]:
        """One sentence for each kind of finding."""
        fill = f"filled with {self.background} (data.alpha)"
        several = f"{self.kind}s"
        if self.transparent is None:
            alpha = self._counted(self.with_alpha, "an alpha channel")
            alpha = alpha and f"{alpha}; transparent pixels are {fill}."
        else:
            alpha = self._counted(self.transparent, "transparent pixels")
            alpha = alpha and f"{alpha}, which are {fill}."
        copied = self._counted(self.copies, "the same content as an earlier one")
        copied = copied and f"{copied}; copies are kept in the same split."
        mixed = self._counted(self.crossing, "a copy in another class")
        mixed = mixed and f"{mixed}; these {several} are used for training; keep each in one class."
        return tuple(sentence for sentence in (alpha, copied, mixed) if sentence)

    def _counted(self, found: Collection[int], what: str) -> str:
        if not found:
            return ""
        have = "has" if len(found) == 1 else "have"
        of_all = f"{format_integer(len(found))} of {format_count(self.total, self.kind)}"
        return f"{of_all} {have} {what} (first: {self.name(min(found))})"


def find_copies(
    contents: Sequence[Hashable], labels: NDArray[np.int64] | None
) -> tuple[list[int], list[int]]:
    """Return the samples with the content of an earlier one, and those in more than one class.

    Args:
        contents: content of each sample, such as a digest.
        labels: class of each sample; None without classes.
    """
    counts = Counter(contents)
    if len(counts) == len(contents):
        return [], []
    first: dict[Hashable, int] = {}
    copies = [row for row, content in enumerate(contents) if first.setdefault(content, row) != row]
    if labels is None:
        return copies, []
    mixed = {contents[row] for row in copies if labels[row] != labels[first[contents[row]]]}
    return copies, [row for row, content in enumerate(contents) if content in mixed]
