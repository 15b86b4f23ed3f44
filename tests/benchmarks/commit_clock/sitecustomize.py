"""Put on PYTHONPATH, this has every Python process count its seconds of hashing and syncing.

Each call adds a line to a file of its process in the folder that `STEPFOLD_COMMIT_CLOCK` names, so
that nothing is lost with a worker that is killed.
"""

import hashlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

FOLDER = Path(os.environ["STEPFOLD_COMMIT_CLOCK"])


def clocked(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(work)
    def wrapper(*arguments: Any, **named: Any) -> Any:
        began = time.perf_counter()
        try:
            return work(*arguments, **named)
        finally:
            seconds = time.perf_counter() - began
            with (FOLDER / str(os.getpid())).open("a") as file:
                file.write(f"{name} {seconds:.9f}\n")

    return wrapper


def clock_syncs(module: ModuleType) -> None:
    module.sync = clocked("sync", module.sync)  # type: ignore[attr-defined]


def clock_files(module: ModuleType) -> None:
    module.hash_file = clocked("hash a file", module.hash_file)  # type: ignore[attr-defined]


def clock_members(module: ModuleType) -> None:
    sha256 = clocked("hash a member", hashlib.sha256)
    module.hashlib = SimpleNamespace(sha256=sha256)  # type: ignore[attr-defined]


CLOCKED = {
    "pipeline.durable": clock_syncs,
    "pipeline.ledger": clock_files,
    "pipeline.data.records": clock_members,
}


class Clock(importlib.abc.MetaPathFinder):
    """Wraps the functions as their modules are loaded, before anybody can import them by name."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in CLOCKED:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        loader = spec.loader if spec else None
        if loader is None:
            return None
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            CLOCKED[name](module)

        loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, Clock())
