"""SIGTERM, which orchestrators end programs with, ends the work as Ctrl-C does."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM raise what Ctrl-C raises, around a run and again while Ray is waited for.

    Prefect raises something of its own and then passes the signal on to whom it found in its place,
    by default the end of the process, before its last words. Ray looks for signals while it waits,
    and hands on KeyboardInterrupt alone: what other handlers raise there, Prefect's among them, is
    lost, and the work goes on.
    """
    handler = signal.getsignal(signal.SIGTERM)
    set_sigterm(interrupt)
    try:
        yield
    finally:
        set_sigterm(handler or signal.SIG_DFL)


def set_sigterm(handler: Any) -> None:
    """Have SIGTERM handled so, where it can be: other threads than the first cannot."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


def interrupt(number: int, frame: Any) -> None:  # noqa: ARG001 (signal's)
    """Raise what Ctrl-C raises."""
    raise KeyboardInterrupt
