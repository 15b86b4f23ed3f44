"""A part of the suite runs its tests, stores the outcomes, and prints them."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.faults.table import Progress, show

ROOT = Path(__file__).resolve().parents[2]

SUITE = """
import pathlib, pytest
from dataclasses import asdict
from tests.faults.table import PROPERTY, FaultRow

@pytest.mark.parametrize("number", range(5))
def test_fault(number, request):
    row = FaultRow("4", "a node dies", "train", "resumed", noticed_s=float(number))
    request.node.user_properties.append((PROPERTY, asdict(row)))
    with pathlib.Path("ran").open("a") as file:
        file.write(f"{number} ")
    assert number != 3 or pathlib.Path("mended").exists()
"""
SOAK = """
import pathlib

def test_of_half_an_hour():
    with pathlib.Path("ran").open("a") as file:
        file.write("long ")
"""
RUNNER = """
import json, pathlib, sys
import pytest
from tests.faults.__main__ import Shard
from tests.faults.table import Progress, show

progress = Progress(pathlib.Path("state.json"), sys.argv[3])
shard = Shard(int(sys.argv[1]), int(sys.argv[2]), progress)
options = ["-p", "no:cacheprovider", "-c", "/dev/null", "test_suite.py", "test_soak.py"]
code = pytest.main(options, plugins=[shard])
show(progress.tests)
sys.exit(code)
"""


def run(folder: Path, part: int, parts: int, source: str = "source") -> tuple[int, str, str]:
    """Exit code, the tests that ran, and the output."""
    (folder / "ran").unlink(missing_ok=True)
    command = [sys.executable, "-c", RUNNER, str(part), str(parts), source]
    done = subprocess.run(
        command,
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "COLUMNS": "120"},
        capture_output=True,
        text=True,
        check=False,
    )
    ran = (folder / "ran").read_text() if (folder / "ran").exists() else ""
    return done.returncode, ran.strip(), done.stdout + done.stderr


@pytest.mark.slow
def test_parts_share_the_tests_and_go_on_where_they_stopped(tmp_path: Path) -> None:
    (tmp_path / "test_suite.py").write_text(SUITE)
    (tmp_path / "test_soak.py").write_text(SOAK)
    assert run(tmp_path, 1, 3)[:2] == (0, "0 2 4")
    code, ran, said = run(tmp_path, 2, 3)
    assert (code, ran) == (1, "1 3")
    assert "4 of 5 passed" in said
    assert "failed: test_suite.py::test_fault[3]" in said
    assert run(tmp_path, 3, 3)[:2] == (0, "long")
    (tmp_path / "mended").touch()
    assert run(tmp_path, 1, 1)[:2] == (0, "3")
    code, ran, said = run(tmp_path, 1, 1)
    assert (code, ran) == (5, "")  # nothing is left
    assert "6 of 6 passed" in said
    assert run(tmp_path, 1, 1, "changed")[:2] == (0, "0 1 2 3 4 long")


def test_parts_that_run_at_the_same_time_lose_nothing_of_each_other(tmp_path: Path) -> None:
    path = tmp_path / "state" / "state.json"
    parts = [Progress(path, "source") for _ in range(4)]

    def keep(part: int) -> None:
        for number in range(25):
            parts[part].keep(f"{part}-{number}", {"passed": True})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(keep, range(4)))
    assert len(parts[0].tests) == 100


def row(outcome: str | None, lost: float | str | None, noticed: float | None) -> dict[str, object]:
    return {
        "number": "5",
        "fault": "a worker hangs",
        "stage": "train",
        "outcome": outcome,
        "noticed_s": noticed,
        "recovered_s": None,
        "lost": lost,
    }


def test_lines_that_agree_become_one_with_their_worst_numbers(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    show(
        {
            "a": {"passed": True, "seconds": 60.0, "rows": [row("resumed", 2.0, 30.0)]},
            "b": {"passed": True, "seconds": 60.0, "rows": [row("resumed", "an update", 41.26)]},
            "c": {"passed": False, "seconds": 0.0, "rows": [row("resumed", None, None)]},
        }
    )
    said = " ".join(capsys.readouterr().out.split())
    assert "5 a worker hangs train 3 FAILED, resumed 41.3 s 2.0 s, an update" in said
    assert said.endswith("2 of 3 passed, 2 minutes failed: c")
