"""Disk states after a power cut: every state that the fsyncs of some work allow.

`record` watches a piece of work: before and after every operation on files it notes what the
folder shows, and at every fsync what is on the disk from then on. A file's bytes are safe once the
file is synced, the names in a folder once the folder is. Of what is not safe a file system may
keep all or nothing, and it may choose anew for each folder and each file's bytes.
"""

import contextlib
import io
import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

_NAMING = ("open", "rename", "replace", "unlink", "remove", "mkdir", "rmdir", "link", "symlink")

Inode = int
State = dict[str, bytes | None]
"""Files by path, with their bytes; folders have None."""


@dataclass
class _Disk:
    """State of a directory tree: the bytes of every file, the names in every folder."""

    files: dict[Inode, bytes] = field(default_factory=dict)
    folders: dict[Inode, dict[str, Inode]] = field(default_factory=dict)

    def copy(self) -> "_Disk":
        return _Disk(dict(self.files), {key: dict(names) for key, names in self.folders.items()})


@dataclass(frozen=True)
class Moment:
    """One moment of some work: the visible state, and its durable part."""

    root: Inode
    shown: _Disk
    safe: _Disk
    folders: frozenset[Inode]

    def states(self) -> Iterator[State]:
        """Return all states that a power cut at this moment may leave."""
        unsafe = [
            folder
            for folder, names in self.shown.folders.items()
            if names != self.safe.folders.get(folder)
        ]
        for with_bytes in (True, False):
            for count in range(len(unsafe) + 1):
                for kept in itertools.combinations(unsafe, count):
                    yield self._left(frozenset(kept), with_bytes=with_bytes)

    def _left(self, kept: frozenset[Inode], *, with_bytes: bool) -> State:
        files = self.shown.files if with_bytes else {}
        state: State = {}

        def visit(folder: Inode, path: str) -> None:
            names = (self.shown if folder in kept else self.safe).folders.get(folder, {})
            for name, inode in names.items():
                if inode in self.folders:
                    state[path + name] = None
                    visit(inode, f"{path}{name}/")
                else:
                    state[path + name] = files.get(inode, self.safe.files.get(inode, b""))

        visit(self.root, "")
        return state


class _Recorder:
    def __init__(self, root: Path) -> None:
        self._root = root
        self._pins: dict[Inode, int] = {}
        self._folders: frozenset[Inode] = frozenset()
        self._safe = self._look()
        self.moments: list[Moment] = []

    def note(self) -> None:
        shown, safe = self._look(), self._safe.copy()
        self.moments.append(Moment(self._root.stat().st_ino, shown, safe, self._folders))

    def synced(self, descriptor: int) -> None:
        inode, shown = os.fstat(descriptor).st_ino, self._look()
        if inode in shown.files:
            self._safe.files[inode] = shown.files[inode]
        if inode in shown.folders:
            self._safe.folders[inode] = dict(shown.folders[inode])

    def close(self) -> None:
        for pin in self._pins.values():
            os.close(pin)

    def _look(self) -> _Disk:
        disk = _Disk(folders={self._root.stat().st_ino: {}})
        for path in self._root.rglob("*"):
            inode = path.stat().st_ino
            if inode not in self._pins:  # while it is open, no other file gets its number
                self._pins[inode] = os.open(path, os.O_RDONLY)
            disk.folders.setdefault(path.parent.stat().st_ino, {})[path.name] = inode
            if path.is_dir():
                disk.folders.setdefault(inode, {})
            else:
                disk.files[inode] = path.read_bytes()
        self._folders |= disk.folders.keys()
        return disk


def record(root: Path, work: Callable[[], object]) -> list[Moment]:
    """Do the work and return all of its moments; the initial content of `root` is durable.

    The last moment is the one at which the work says that it is done.
    """
    recorder, busy = _Recorder(root), False

    def watched(real: Callable[..., Any], *, syncs: bool = False) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            nonlocal busy
            if busy:
                return real(*args, **options)
            busy = True
            try:
                recorder.note()
                result = real(*args, **options)
                if syncs:
                    recorder.synced(args[0])
                recorder.note()
                return result
            finally:
                busy = False

        return call

    with contextlib.ExitStack() as patches:
        for name in _NAMING:
            patches.enter_context(patch.object(os, name, watched(getattr(os, name))))
        patches.enter_context(patch.object(os, "fsync", watched(os.fsync, syncs=True)))
        patches.enter_context(patch.object(io, "open", watched(io.open)))
        work()
        busy = True
        recorder.note()
    recorder.close()
    return recorder.moments


def restore(state: State, folder: Path) -> Path:
    """Write a state into a new folder."""
    folder.mkdir()
    for name, content in state.items():
        if content is None:
            (folder / name).mkdir()
        else:
            (folder / name).write_bytes(content)
    return folder
