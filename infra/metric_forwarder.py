"""Forward metrics from a metrics file to a tracker, in a background thread."""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from pipeline.errors import InfraError
from pipeline.tracking import Point, RunTracker, read_metrics

_log = logging.getLogger(__name__)

_POINTS_PER_CALL = 1000


class MetricForwarder:
    """Copy a growing metrics file to a run until closed; use it in a `with` statement.

    Lines that the run already has, from before a resume, are skipped. If the tracker fails,
    forwarding is retried later without blocking the caller. Only names with a section
    ("train/loss") are copied, against samples seen.

    Args:
        tracker: the tracker.
        open_run: opens the run and returns its id; called until it succeeds once.
        path: the metrics file; it need not exist yet.
        interval: seconds between polls.
        patience: maximum seconds of closing.
        awaits_writer: skip the file until it changes. A training first rewrites the file, so its
            earlier content may belong to another training.
    """

    def __init__(
        self,
        tracker: RunTracker,
        open_run: Callable[[], str],
        path: Path,
        *,
        interval: float = 2.0,
        patience: float = 10.0,
        awaits_writer: bool = False,
    ) -> None:
        self._tracker = tracker
        self._open_run = open_run
        self._run_id: str | None = None
        self._path = path
        self._interval = interval
        self._patience = patience
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="metrics", daemon=True)
        self._seen: float | None = None
        self._stamp = self._file_stamp() if awaits_writer else None
        self._warned = False
        self._is_behind = True

    def __enter__(self) -> "MetricForwarder":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Forward the remaining lines, within the time limit."""
        self._closing.set()
        self._thread.join(self._patience)
        if self._thread.is_alive():
            _log.warning("forwarding of metrics timed out; the rest is in %s", self._path)

    def check(self) -> None:
        """Check after closing that the run has all lines of the file.

        Raises:
            InfraError: lines are missing; forward the file again, which logs no line twice.
        """
        if self._thread.is_alive() or self._is_behind:
            raise InfraError(f"the tracker lacks metrics of {self._path}; forward the file again")

    def _follow(self) -> None:
        deadline = None
        while True:
            closing = self._closing.is_set()
            if closing and deadline is None:
                deadline = time.monotonic() + self._patience
            started = time.monotonic()
            done = self._forward()
            self._is_behind = not done
            if closing and (done or (deadline and time.monotonic() > deadline)):
                return
            # limit the time spent on reading a long file
            pause = max(self._interval, 20 * (time.monotonic() - started) if done else 0.0)
            if closing:
                time.sleep(min(pause, 0.5))
            else:
                self._closing.wait(pause)

    def _forward(self) -> bool:
        """Send new lines; return False if the tracker failed."""
        try:
            self._send_new_lines()
        except InfraError as error:
            if not self._warned:
                _log.warning("%s (will be retried)", error)
            self._warned = True
            self._seen = None  # the points may have been stored despite the error: query again
            return False
        except (OSError, ValueError, KeyError) as error:
            _log.warning("%s cannot be forwarded: %s", self._path, error)
            return True
        return True

    def _send_new_lines(self) -> None:
        run_id = self._run_id = self._run_id or self._open_run()
        stamp = self._file_stamp()
        if stamp is None or stamp == self._stamp:
            return
        batch: list[Point] = []
        last = self._seen
        for line in read_metrics(self._path):
            values = {name: value for name, value in line.items() if "/" in name}
            if not values:
                continue
            if last is None:
                last = self._last_step(run_id, next(iter(values)))
            if line["samples_seen"] <= last:
                continue
            if len(batch) + len(values) > _POINTS_PER_CALL:
                self._send(run_id, batch, last)
                batch = []
            last = line["samples_seen"]
            batch += [(name, value, int(last)) for name, value in values.items()]
        if batch and last is not None:
            self._send(run_id, batch, last)
        self._stamp = stamp

    def _send(self, run_id: str, batch: list[Point], last: float) -> None:
        self._tracker.log(run_id, batch, are_new=True)
        self._seen = last

    def _last_step(self, run_id: str, name: str) -> float:
        self._seen = float(self._tracker.last_step(run_id, name))
        return self._seen

    def _file_stamp(self) -> tuple[int, int, int] | None:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns
