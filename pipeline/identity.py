"""Process identity: a pid alone is reused by the system, a pid with its start time is not."""

import os
from pathlib import Path

import psutil

from pipeline.documents import Document

_TOLERANCE_S = 2.0  # boot and start times are rounded

_TAG = "driver"

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Identity(Document):
    """The identity of a process.

    Where the machine has a boot id, the start time is counted from boot, so that a change of the
    system clock does not change a process's identity.

    Attributes:
        host: the machine's name.
        pid: process id on that machine.
        started: start time in seconds since the epoch, by the system clock.
        boot: boot id of the machine; empty where it has none.
        since_boot: seconds from boot to the start.
    """

    host: str
    pid: int
    started: float
    boot: str = ""
    since_boot: float = 0.0

    @property
    def is_alive(self) -> bool | None:
        """Whether the process still runs; None if it belongs to another machine."""
        if self.host != os.uname().nodename:
            return None
        return self.process() is not None

    def process(self) -> psutil.Process | None:
        """Return the process; None if it has ended or belongs to another machine."""
        try:
            found = psutil.Process(self.pid)
            is_same = self._is(identify(found))
            is_running = found.status() != psutil.STATUS_ZOMBIE
        except (psutil.Error, ValueError):
            return None
        return found if is_same and is_running and self.host == os.uname().nodename else None

    def _is(self, other: "Identity") -> bool:
        if self.boot:
            difference = self.since_boot - other.since_boot
            return self.boot == other.boot and abs(difference) < _TOLERANCE_S
        return abs(self.started - other.started) < _TOLERANCE_S

    @property
    def tag(self) -> str:
        """The identity as one word, used as a tag of flow runs."""
        word = f"{_TAG}:{self.host}:{self.pid}:{self.started:.2f}"
        return f"{word}:{self.boot}:{self.since_boot:.2f}" if self.boot else word


def identify(process: psutil.Process | None = None) -> Identity:
    """Return the identity of a process of this machine; by default the current process."""
    process = process or psutil.Process()
    started = process.create_time()  # psutil adds the boot time by the current system clock
    return Identity(
        host=os.uname().nodename,
        pid=process.pid,
        started=started,
        boot=_BOOT_ID.read_text(encoding="ascii").strip() if _BOOT_ID.is_file() else "",
        since_boot=round(started - psutil.boot_time(), 2),
    )


def from_tag(tag: str) -> Identity | None:
    """Parse an `Identity.tag`; None for any other word."""
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
