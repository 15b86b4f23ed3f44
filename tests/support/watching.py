"""Side effects of code, from Python's audit events: processes, writes, removals."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipeline.errors import StepfoldError

_FORBIDDEN = {
    *("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "pickle.find_class"),
    *("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.symlink", "os.link", "shutil.rmtree"),
    *("socket.connect", "socket.bind"),
}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class _Audit:
    """A hook for audit events; audit hooks cannot be removed."""

    def __init__(self) -> None:
        self.seen: list[str] | None = None
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.seen is None:
            return
        if event in _FORBIDDEN or (event == "open" and _is_writing(arguments)):
            self.seen.append(f"{event} {arguments!r:.200}")


def _is_writing(arguments: tuple[object, ...]) -> bool:
    path, _, flags = arguments
    return isinstance(path, str | bytes) and isinstance(flags, int) and bool(flags & _WRITING)


_audit = _Audit()


@contextmanager
def nothing_but_reading() -> Iterator[None]:
    """Check that the block starts no process, writes no file and opens no connection."""
    _audit.seen = []
    try:
        yield
        seen = _audit.seen
    finally:
        _audit.seen = None
    assert seen == []


def refusal_of(work: Callable[[], object]) -> str | None:
    """Return the message of a StepfoldError, or None; other errors propagate."""
    with nothing_but_reading():
        try:
            work()
        except StepfoldError as error:
            return str(error)
    return None
