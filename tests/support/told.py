"""An observer that records the progress of a stage."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Told:
    """Records the progress of stages, and counts how often one started work.

    Attributes:
        parts: (parts done, parts in total), as they were reported.
        worked: number of stages that did work; a reused result needs none.
    """

    parts: list[tuple[int, int]] = field(default_factory=list)
    worked: int = 0

    @contextmanager
    def working(self) -> Iterator[None]:
        """Count a stage that does work."""
        self.worked += 1
        yield

    def progress(self, done: int, total: int) -> None:
        """Record the progress."""
        self.parts.append((done, total))
