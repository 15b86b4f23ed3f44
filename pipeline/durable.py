"""Files and folders that survive a power cut: whole, or not there at all.

A name is only on the disk once its folder is synced, and what it names once the file is. A kernel
may keep either without the other, so both are synced, the content before the name.
"""

import os
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
    """Have a folder and those above it, their own names on the disk too."""
    missing = list(takewhile(lambda above: not above.is_dir(), folder.parents))
    folder.mkdir(parents=True, exist_ok=True)
    # also if it is there: another process may have made it this moment and not come to sync it
    for made in (folder, *missing):
        sync(made.parent)


def replace_durably(path: Path, write: Callable[[Path], object]) -> None:
    """Make or replace a file in one move.

    Args:
        path: the file; its folder is made if it is missing.
        write: writes it whole, under the temporary name that it is given.
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
    """Make or replace a small text file in one move."""
    replace_durably(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
