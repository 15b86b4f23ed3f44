"""Who a process is: its number alone comes round again, its number and its start do not."""

import os
from pathlib import Path

import psutil

from pipeline.documents import Document

_TOLERANCE_S = 2.0  # times of boot and of starts are rounded ones

_TAG = "driver"

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Identity(Document):
    """A process of a machine.

    Where the machine says which boot it is in, the start is counted from it: a clock that is set
    while a process runs makes no other process of it.

    Attributes:
        host: the machine's name.
        pid: its number there.
        started: when, in seconds since the epoch, as the clock said.
        boot: which boot of the machine; empty where the machine does not say.
        since_boot: seconds from that to the start.
    """

    host: str
    pid: int
    started: float
    boot: str = ""
    since_boot: float = 0.0

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
            is_same = self._is(identify(found))
            is_running = found.status() != psutil.STATUS_ZOMBIE
        except (psutil.Error, ValueError):
            return None
        return found if is_same and is_running and self.host == os.uname().nodename else None

    def _is(self, other: "Identity") -> bool:
        if self.boot:
            apart = self.since_boot - other.since_boot
            return self.boot == other.boot and abs(apart) < _TOLERANCE_S
        return abs(self.started - other.started) < _TOLERANCE_S

    @property
    def tag(self) -> str:
        """As one word, for flow runs."""
        word = f"{_TAG}:{self.host}:{self.pid}:{self.started:.2f}"
        return f"{word}:{self.boot}:{self.since_boot:.2f}" if self.boot else word


def identify(process: psutil.Process | None = None) -> Identity:
    """Who a process of this machine is; this one by default."""
    process = process or psutil.Process()
    started = process.create_time()  # psutil adds what the clock now says of the boot
    return Identity(
        host=os.uname().nodename,
        pid=process.pid,
        started=started,
        boot=_BOOT_ID.read_text(encoding="ascii").strip() if _BOOT_ID.is_file() else "",
        since_boot=round(started - psutil.boot_time(), 2),
    )


def from_tag(tag: str) -> Identity | None:
    """The inverse of `Identity.tag`; None for any other word."""
    kind, *parts = tag.split(":")
    if kind != _TAG or len(parts) not in (3, 5):
        return None
    host, pid, started, boot, since_boot = [*parts, "", "0"][:5]
    try:
        return Identity(
            host=host,
            pid=int(pid),
            started=float(started),
            boot=boot,
            since_boot=float(since_boot),
        )
    except ValueError:
        return None
