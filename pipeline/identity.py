"""Who a process is: its number alone comes round again, its number and its start do not."""

import os

import psutil

from pipeline.documents import Document

_TOLERANCE_S = 2.0  # the start is counted from the boot, whose time is a rounded one

_TAG = "driver"


class Identity(Document):
    """A process of a machine.

    Attributes:
        host: the machine's name.
        pid: its number there.
        started: when, in seconds since the epoch.
    """

    host: str
    pid: int
    started: float

    @property
    def is_alive(self) -> bool | None:
        """Whether it still runs; None if it is, or was, on another machine."""
        if self.host != os.uname().nodename:
            return None
        return self.process() is not None

    def process(self) -> psutil.Process | None:
        """The process itself; None if it is gone, or is on another machine."""
        try:
            found = psutil.Process(self.pid)
            is_same = abs(found.create_time() - self.started) < _TOLERANCE_S
            is_running = found.status() != psutil.STATUS_ZOMBIE
        except (psutil.Error, ValueError):
            return None
        return found if is_same and is_running and self.host == os.uname().nodename else None

    @property
    def tag(self) -> str:
        """As one word, for flow runs."""
        return f"{_TAG}:{self.host}:{self.pid}:{self.started:.2f}"


def identify(process: psutil.Process | None = None) -> Identity:
    """Who a process of this machine is; this one by default."""
    process = process or psutil.Process()
    return Identity(host=os.uname().nodename, pid=process.pid, started=process.create_time())


def from_tag(tag: str) -> Identity | None:
    """The inverse of `Identity.tag`; None for any other word."""
    kind, _, rest = tag.partition(":")
    host, _, numbers = rest.partition(":")
    pid, _, started = numbers.partition(":")
    try:
        return Identity(host=host, pid=int(pid), started=float(started)) if kind == _TAG else None
    except ValueError:
        return None
