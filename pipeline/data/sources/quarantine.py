"""Samples of a source that cannot be used: set aside by name and reason, within a budget."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import DataError, SampleError

REPORT = "set-aside.json"
_NAMED = 3


@dataclass
class Quarantine:
    """What was set aside of one source.

    Attributes:
        max_bad: share of a source that may be set aside; none unless it is given.
        root: where the source lies; what is reported is named from here, so that the same files
            elsewhere give the same report.
        found: the errors, in the order in which they were met.
    """

    max_bad: float = 0.0
    root: str = ""
    found: list[SampleError] = field(default_factory=list)

    def __len__(self) -> int:
        """Samples set aside."""
        return len(self.found)

    def copy(self) -> "Quarantine":
        """The same until one of the two finds more."""
        return Quarantine(self.max_bad, self.root, [*self.found])

    @contextmanager
    def catching(self) -> Iterator[None]:
        """Set aside the sample that the block cannot use; whatever else fails, fails."""
        try:
            yield
        except SampleError as error:
            self.found.append(error)

    def check(self, total: int) -> None:
        """See that the budget is kept.

        Args:
            total: samples of the source, those set aside included.

        Raises:
            DataError: more than `max_bad` of them are set aside; names the first few.
        """
        allowed = math.floor(self.max_bad * total + 1e-9)  # 0.29 * 100 is a hair below 29
        if len(self.found) <= allowed:
            return
        first = "\n".join(str(error) for error in self.found[:_NAMED])
        more = f"\n... and {len(self) - _NAMED} more" if len(self) > _NAMED else ""
        raise DataError(
            f"{first}{more}\n{len(self)} of {total} samples cannot be used so far, and "
            f"data.max_bad: {self.max_bad:g} lets {allowed} be set aside; mend them, or raise it"
        )

    def write(self, folder: Path) -> None:
        """Write which samples were set aside and why, if any were."""
        if not self.found:
            return
        rows = [{"sample": self.place(error), "reason": error.reason} for error in self.found]
        text = json.dumps(rows, indent=1, ensure_ascii=True)  # a name may be no valid Unicode
        (folder / REPORT).write_text(text, encoding="utf-8")

    def place(self, error: SampleError) -> str:
        """What a sample is called from `root`."""
        return error.sample.removeprefix(self.root).lstrip("/")
