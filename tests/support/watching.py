"""What code does behind its answers, told by Python itself: what it starts, writes and removes."""

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
    """A hook for audit events, which cannot be removed once it is there."""

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
    """See that the block starts nothing, writes nothing, and asks nobody."""
    _audit.seen = []
    try:
        yield
        seen = _audit.seen
    finally:
        _audit.seen = None
    assert seen == []


def refusal_of(work: Callable[[], object]) -> str | None:
    """What a deliberate error of this work says, None if there is none; nothing else may be."""
    with nothing_but_reading():
        try:
            work()
        except StepfoldError as error:
            return str(error)
    return None
