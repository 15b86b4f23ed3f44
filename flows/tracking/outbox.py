"""The outbox of a run: tracker updates that could not be delivered, and are retried later."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.durable import write_durably
from pipeline.errors import InfraError
from pipeline.run_dir.layout import RunDir

_log = logging.getLogger(__name__)


class Outbox:
    """The pending tracker updates of a run directory: an unreachable tracker does not stop a run.

    All data sent to the tracker is first in the run directory: metrics in a file per round,
    promotions and reports as artifacts. The outbox file lists the updates that could not be
    delivered. The end of the run delivers them, or the next run of the same directory; delivery is
    idempotent.
    """

    def __init__(self, run_dir: Path) -> None:
        self._path = RunDir(run_dir).outbox

    def pending(self) -> list[str]:
        """Return the keys of pending updates, in order."""
        try:
            found: list[str] = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # no file, or not JSON
            return []
        return found

    @contextmanager
    def delivering(self, key: str) -> Iterator[None]:
        """Deliver the update `key` in the block; add it to the outbox if the tracker fails.

        The block must not raise InfraError for any other reason.
        """
        try:
            yield
        except InfraError as error:
            _log.warning("%s; queued update %s for later delivery", error, key)
            if key not in self.pending():
                write_durably(self._path, json.dumps([*self.pending(), key], indent=1))
        else:
            self.drop(key)

    def drop(self, key: str) -> None:
        """Remove an update from the outbox."""
        left = self.pending()
        if key not in left:
            return
        left.remove(key)
        if left:
            write_durably(self._path, json.dumps(left, indent=1))
        else:
            self._path.unlink(missing_ok=True)
