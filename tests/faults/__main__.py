"""`python -m tests.faults [--shard K/N] [-k WORDS]`: all faults, in parts that resume; their table.

What passed is kept in `.faults/state.json` after every test, and is not run again until a source
file changes. Parts may run at the same time. The last of several is the half hour of random kills.
"""

import argparse
import hashlib
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.faults.table import PROPERTY, Progress, show
from tests.support.shards import parse_shard

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "tests" / "faults"
STATE = ROOT / ".faults" / "state.json"
LONG = "test_soak.py"
SOURCES = ("pipeline", "infra", "stages", "flows", "tests")
# without the project's own: shapes cannot be checked in packages that are imported already
OPTIONS = ("-o", "addopts=--strict-markers --import-mode=importlib -q")
NOTHING_TO_DO = 5  # pytest's code where no test was left


class Shard:
    """A pytest plugin that runs one part of the tests, without those that passed before."""

    def __init__(self, part: int, parts: int, progress: Progress) -> None:
        self._part, self._parts, self._progress = part, parts, progress
        self._running: dict[str, Any] = {}

    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Deselect the tests of other parts, and tests that passed before."""
        passed = {name for name, test in self._progress.tests.items() if test["passed"]}
        left = [item for item in self._share(items) if item.nodeid not in passed]
        config.hook.pytest_deselected(items=[item for item in items if item not in left])
        items[:] = left

    def _share(self, faults: list[pytest.Item]) -> list[pytest.Item]:
        """Assign the long test to the last of several parts; the others share the rest."""
        if self._parts == 1:
            return faults
        if self._part == self._parts:
            return [item for item in faults if _is_long(item)]
        short = [item for item in faults if not _is_long(item)]
        return short[self._part - 1 :: self._parts - 1]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record the outcome of every test."""
        if report.when == "setup":
            self._running = {"passed": True, "seconds": 0.0, "rows": []}
        self._running["passed"] &= report.passed
        self._running["seconds"] += report.duration
        if report.when == "teardown":
            rows = [row for name, row in report.user_properties if name == PROPERTY]
            self._running["rows"] = rows
            self._progress.keep(report.nodeid, self._running)


def _is_long(item: pytest.Item) -> bool:
    return item.path.name == LONG


def source_hash() -> str:
    """Hash everything that can change the outcome of a fault."""
    files = [
        file
        for name in SOURCES
        for file in (ROOT / name).rglob("*")
        if file.suffix in {".py", ".yaml"}
    ]
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(str(file.relative_to(ROOT)).encode() + file.read_bytes())
    return digest.hexdigest()


def main() -> int:
    """Run, print the table of all parts so far, and return 0 if all passed."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("--shard", default="1/1", metavar="K/N", help="the K-th of N parts")
    parser.add_argument("-k", default="", metavar="WORDS", help="only tests so named, as in pytest")
    asked = parser.parse_args()
    os.environ.setdefault("STEPFOLD_SOAK_S", "1800")
    progress = Progress(STATE, source_hash())
    shard = Shard(*parse_shard(asked.shard), progress)
    code = int(pytest.main([str(HERE), *OPTIONS, "-k", asked.k], plugins=[shard]))
    show(progress.tests)
    return 0 if code == NOTHING_TO_DO else code


if __name__ == "__main__":
    sys.exit(main())
