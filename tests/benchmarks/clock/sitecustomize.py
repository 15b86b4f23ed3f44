"""Put on PYTHONPATH, this has every Python process count its seconds of what a run does besides.

Each call adds a line to a file of its process in the folder that `STEPFOLD_CLOCK` names, so that
nothing is lost with a worker that is killed.
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

FOLDER = Path(os.environ["STEPFOLD_CLOCK"])

CLOCKED = {
    "pipeline.durable": {"sync": "sync"},
    "pipeline.ledger": {"hash_file": "hash a file"},
    "pipeline.data.records": {"hashlib": "hash a member"},
    "pipeline.tracking": {"JsonlTracker.log": "tell a line"},
    "infra.metric_forwarder": {"MetricForwarder.close": "tell the last lines"},
    "flows.round_tracking": {"log_result": "tell a result", "log_verdict": "tell a verdict"},
    "flows.orchestration.artifacts": {"show_links": "show links", "show_round": "show a round"},
    "stages.rounds.promote": {"register": "tell a promotion"},
}
"""What is timed, by module and name; none is called by another of them."""


def clocked(name: str, work: Any) -> Any:
    if isinstance(work, ModuleType):  # hashlib, as one module sees it
        return SimpleNamespace(sha256=clocked(name, hashlib.sha256))

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


def put_clocks(module: ModuleType) -> None:
    for path, name in CLOCKED[module.__name__].items():
        *owners, last = path.split(".")
        owner: Any = module
        for each in owners:
            owner = getattr(owner, each)
        setattr(owner, last, clocked(name, getattr(owner, last)))


def then_put_clocks(execute: Callable[[ModuleType], None]) -> Callable[[ModuleType], None]:
    def exec_module(module: ModuleType) -> None:
        execute(module)
        put_clocks(module)

    return exec_module


class Clock(importlib.abc.MetaPathFinder):
    """Wraps the functions as their modules are loaded, before anybody can import them by name."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in CLOCKED:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return None
        spec.loader.exec_module = then_put_clocks(spec.loader.exec_module)  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, Clock())
