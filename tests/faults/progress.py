"""What has passed, in a file that parts which run at the same time share."""

import json
from pathlib import Path
from typing import Any

from filelock import FileLock

from pipeline.durable import write_durably

Entry = dict[str, Any]


class Progress:
    """The outcome of every test that was run on one version of the sources.

    Attributes:
        path: the file; a lock stands beside it.
        source: the hash of the sources; what other sources did is forgotten.
    """

    def __init__(self, path: Path, source: str) -> None:
        self.path, self.source = path, source

    @property
    def tests(self) -> dict[str, Entry]:
        """By test: whether it passed, its seconds and its rows; of all parts."""
        known = json.loads(self.path.read_text(encoding="utf-8")) if self.path.is_file() else {}
        found: dict[str, Entry] = known["tests"] if known.get("source") == self.source else {}
        return found

    def keep(self, test: str, entry: Entry) -> None:
        """Add the outcome of a test, or replace it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.path}.lock"):
            tests = self.tests | {test: entry}
            text = json.dumps({"source": self.source, "tests": tests}, indent=1)
            write_durably(self.path, text)
