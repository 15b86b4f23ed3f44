"""What MLflow is still to be told: that it is away costs no work, and nothing is told twice.

Everything said to MLflow stands in the run directory first: metrics in a file for each round,
promotions and reports as artifacts. What it could not be told is noted in `owed.json`, told at the
end of the run, and else by the next run of the same directory.
"""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.durable import write_durably
from pipeline.errors import InfraError

_log = logging.getLogger(__name__)


class Owed:
    """The notes of one run directory."""

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / "owed.json"

    def all(self) -> list[str]:
        """What is owed, in order."""
        try:
            found: list[str] = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # there are none
            return []
        return found

    @contextmanager
    def telling(self, what: str) -> Iterator[None]:
        """Tell MLflow something in the block; if it does not answer, note it and go on.

        The block may do nothing else that raises InfraError.
        """
        try:
            yield
        except InfraError as error:
            _log.warning("%s (%s is told later)", error, what)
            if what not in self.all():
                write_durably(self._path, json.dumps([*self.all(), what], indent=1))
        else:
            self.drop(what)

    def drop(self, what: str) -> None:
        """Owe it no longer."""
        left = self.all()
        if what not in left:
            return
        left.remove(what)
        if left:
            write_durably(self._path, json.dumps(left, indent=1))
        else:
            self._path.unlink(missing_ok=True)
