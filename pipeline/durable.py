"""Durable writes: after a power failure a file is complete or absent.

A file name is on disk once its folder is synced, and the content once the file is synced. The
kernel may persist either without the other, so both are synced, the content before the name.
"""

import os
import shutil
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path
from uuid import uuid4

from pipeline.failpoints import failpoint


def sync(path: Path) -> None:
    """fsync one file or directory."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(path: Path) -> None:
    """fsync every file and directory at and below `path`."""
    for found in [*path.rglob("*"), path] if path.is_dir() else [path]:
        sync(found)


def make_folder(folder: Path) -> None:
    """Create a folder with its parents and sync their directory entries."""
    missing = list(takewhile(lambda above: not above.is_dir(), folder.parents))
    folder.mkdir(parents=True, exist_ok=True)
    # an existing folder too: another process may have just created it without having synced it
    for made in (folder, *missing):
        if os.access(made.parent, os.R_OK):  # a directory we cannot read cannot be synced
            sync(made.parent)


def replace_durably(path: Path, write: Callable[[Path], object]) -> None:
    """Create or replace a file atomically and durably.

    Args:
        path: the file; its folder is created if missing.
        write: writes the complete content to the temporary path it receives.
    """
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}.tmp")
    try:
        write(temporary)
        sync(temporary)
        failpoint("durable.synced")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    failpoint("durable.replaced")
    sync(path.parent)


def write_durably(path: Path, text: str) -> None:
    """Create or replace a small text file atomically and durably."""
    replace_durably(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def link_tree(source: Path, folder: Path) -> None:
    """Fill a folder with hard links to the files of another, or copies where links are impossible.

    The other folder may be replaced or removed later: the linked files keep their content.
    """
    shutil.copytree(source, folder, copy_function=_link, dirs_exist_ok=True)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)
