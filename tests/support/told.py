"""An observer that keeps what a stage reports."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Told:
    """Keeps the progress of stages, and counts how often one began to work.

    Attributes:
        parts: (parts done, parts in total), as they were reported.
        worked: how many stages did work; a reused result needs none.
    """

    parts: list[tuple[int, int]] = field(default_factory=list)
    worked: int = 0

    @contextmanager
    def working(self) -> Iterator[None]:
        """Count a stage that works."""
        self.worked += 1
        yield

    def progress(self, done: int, total: int) -> None:
        """Keep how far it is."""
        self.parts.append((done, total))
