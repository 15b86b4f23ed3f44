"""End a process that waits for a peer that will not come.

A collective whose peer hangs shows nothing for half an hour: Ray sees living processes, and
DeepSpeed's groups take no timeout. A C-level timer that every update rearms needs no thread of
ours and fires even while Python waits inside gloo or NCCL.
"""

import faulthandler
import time
from types import TracebackType

_SHORTEST_S = 60.0
_UNKNOWN_S = 600.0
_FACTOR = 20.0
_REARM_S = 1.0  # arming starts a thread, which costs as much as a percent of a small update


class Watchdog:
    """Dump all stacks to stderr and exit if an update takes far longer than any before.

    Use it as a context manager, whose end is the end of the watch. The timer is the process's only
    one, so a watchdog belongs to what owns the process: a worker has one, however many engines.

    Args:
        world_size: ranks of the process group; with 1 the timer is not touched, because a single
            process has no peer to wait for.
    """

    def __init__(self, world_size: int) -> None:
        self._active = world_size > 1
        self._longest = 0.0
        self._last: float | None = None
        self._armed = 0.0

    def __enter__(self) -> "Watchdog":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def updated(self) -> None:
        """An update is complete; the next may take 20 times the longest, at least a minute.

        The timer is set at most once a second, so it may strike a second early.
        """
        now = time.monotonic()
        if self._last is not None:
            self._longest = max(self._longest, now - self._last)
        patience = max(_SHORTEST_S, _FACTOR * self._longest) if self._longest else _UNKNOWN_S
        self._last = now
        if now - self._armed >= _REARM_S:
            self._arm(patience)

    def paused(self) -> None:
        """Something other than an update begins, whose duration says nothing about updates."""
        self._last = None
        self._arm(_UNKNOWN_S)

    def stop(self) -> None:
        """Nothing collective follows."""
        if self._active:
            faulthandler.cancel_dump_traceback_later()

    def _arm(self, patience: float) -> None:
        self._armed = time.monotonic()
        if self._active:
            faulthandler.dump_traceback_later(patience, exit=True)
