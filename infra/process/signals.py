"""Handle SIGTERM, which orchestrators send to stop programs, like Ctrl-C."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def interruptible() -> Iterator[None]:
    """Make SIGTERM raise KeyboardInterrupt in the block: during a run, and while waiting for Ray.

    Prefect's handler raises its own exception and then calls the previous handler, by default the
    immediate end of the process, before cleanup. While Ray waits, it passes on KeyboardInterrupt
    only; exceptions of other handlers, such as Prefect's, are lost and the work continues.
    """
    handler = signal.getsignal(signal.SIGTERM)
    set_sigterm(interrupt)
    try:
        yield
    finally:
        set_sigterm(handler or signal.SIG_DFL)


def set_sigterm(handler: Any) -> None:
    """Set the SIGTERM handler; no effect outside the main thread, which cannot set handlers."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


def interrupt(number: int, frame: Any) -> None:  # noqa: ARG001 (signal's signature)
    """Raise KeyboardInterrupt, as Ctrl-C does."""
    raise KeyboardInterrupt
