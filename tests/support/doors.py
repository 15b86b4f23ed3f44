"""Listening sockets of a process tree that other machines can reach."""

import socket
import threading
import time
from ipaddress import IPv6Address, ip_address
from types import TracebackType

import psutil


def free_port() -> int:
    """Return a free port on loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def open_doors(pid: int) -> set[str]:
    """Return the sockets beyond loopback of a process tree, with their processes."""
    return {door for door, address in listeners(pid) if not is_loopback(address)}


def listeners(pid: int) -> list[tuple[str, str]]:
    """Yield every listening socket of a process tree, and its address."""
    found = []
    try:
        root = psutil.Process(pid)
        family = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
    for member in family:
        try:
            name = " ".join(member.cmdline())
            sockets = member.net_connections(kind="inet")
        except psutil.Error:  # it has just ended
            continue
        found += [
            (f"{name} on {each.laddr.ip}:{each.laddr.port}", each.laddr.ip)
            for each in sockets
            if each.status == psutil.CONN_LISTEN
        ]
    return found


def is_loopback(text: str) -> bool:
    address = ip_address(text)
    inner = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (inner or address).is_loopback


class Watch:
    """Poll the listening sockets until the block ends."""

    def __init__(self, pid: int, pause: float = 1.0) -> None:
        self._pid = pid
        self._pause = pause
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.doors: set[str] = set()
        self.names: set[str] = set()

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.is_set():
            for door, address in listeners(self._pid):
                self.names.add(door)
                if not is_loopback(address):
                    self.doors.add(door)
            time.sleep(self._pause)
