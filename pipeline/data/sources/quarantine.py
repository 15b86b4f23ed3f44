"""Unusable samples of a data source: quarantined up to a limit, with names and reasons."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import DataError, SampleError

REPORT = "set-aside.json"
"""File of a data set that lists its quarantined samples."""

ALWAYS_ALLOWED = 5
"""Samples that a large enough source may have quarantined, unless `max_bad` is 0."""

_NAMED = 3  # unusable samples in an error message


@dataclass
class Quarantine:
    """The quarantined samples of one source.

    Attributes:
        max_bad: maximum fraction of a source that may be quarantined, in [0, 1]. Above 0, sources
            of at least 100 samples may have `ALWAYS_ALLOWED` of them, smaller ones one in 20.
        root: root of the source; reported names are relative to it, so that the report does not
            depend on the location.
        found: the errors, in order of occurrence.
    """

    max_bad: float = 0.0
    root: str = ""
    found: list[SampleError] = field(default_factory=list)

    def __len__(self) -> int:
        """Return the number of quarantined samples."""
        return len(self.found)

    def copy(self) -> "Quarantine":
        """Return an independent copy."""
        return Quarantine(self.max_bad, self.root, [*self.found])

    @contextmanager
    def catching(self) -> Iterator[None]:
        """Quarantine the sample if the block raises SampleError; other errors propagate."""
        try:
            yield
        except SampleError as error:
            self.found.append(error)

    def check(self, total: int) -> None:
        """Check that the number of quarantined samples is within the limit.

        Args:
            total: samples of the source, including quarantined ones.

        Raises:
            DataError: more than `max_bad` are quarantined; the message has the first few.
        """
        allowed = math.floor(self.max_bad * total + 1e-9)  # 0.29 * 100 is slightly below 29
        if self.max_bad:
            allowed = max(allowed, min(ALWAYS_ALLOWED, total // 20))
        if len(self.found) <= allowed:
            return
        first = "\n".join(str(error) for error in self.found[:_NAMED])
        more = f"\n... and {len(self) - _NAMED} more" if len(self) > _NAMED else ""
        raise DataError(
            f"{first}{more}\n{len(self)} of {total} samples are unusable so far, and "
            f"data.max_bad: {self.max_bad:g} allows {allowed}; fix them, or raise data.max_bad"
        )

    def write(self, folder: Path) -> None:
        """Write the names and reasons of quarantined samples; no file if there are none."""
        if not self.found:
            return
        rows = [{"sample": self.place(error), "reason": error.reason} for error in self.found]
        text = json.dumps(rows, indent=1, ensure_ascii=True)  # names may be invalid Unicode
        (folder / REPORT).write_text(text, encoding="utf-8")

    def place(self, error: SampleError) -> str:
        """Return the name of a sample relative to `root`."""
        return error.sample.removeprefix(self.root).lstrip("/")
