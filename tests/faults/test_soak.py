"""Minutes of kills at random moments: every chain ends with the bytes of an undisturbed one.

Five in `make nightly`, thirty in `make faults`; `STEPFOLD_SOAK_S` is another length in seconds.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from random import Random

import psutil
import pytest

from pipeline.verification.examine import examine
from tests.faults.conftest import MakeRow
from tests.support.chain import KILLED, SMALLEST, Process, events, log_of, result_of, start
from tests.support.prefect_home import new_home

pytestmark = [pytest.mark.nightly, pytest.mark.needs_ray]

SOAK_S = float(os.environ.get("STEPFOLD_SOAK_S", "300"))
# an undisturbed chain takes about 40, its start a third of that
PAUSES_S = (5.0, min(90.0, SOAK_S / 10))
MOST_STARTS = 60

VICTIMS = {
    "worker": ("ray::JobServer", "ray::RayTrainWorker"),
    "train controller": ("ray::TrainController",),
    "Ray's head": ("gcs_server",),
    "Ray's node": ("raylet/raylet",),
    "Prefect server": ("prefect server",),
}
"""Processes of a run besides its driver, by what their command lines hold."""


def victims_of(process: Process) -> dict[str, list[psutil.Process]]:
    found: dict[str, list[psutil.Process]] = {"driver": [psutil.Process(process.pid)]}
    for each in psutil.Process(process.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            line = " ".join(each.cmdline())
            for kind, signs in VICTIMS.items():
                if any(sign in line[:200] for sign in signs):
                    found.setdefault(kind, []).append(each)
    return found


def kill_somebody(process: Process, chance: Random) -> str:
    """kill -9 one process of a run; return its kind."""
    victims = victims_of(process)
    kind = chance.choice(sorted(victims))
    with contextlib.suppress(psutil.NoSuchProcess):
        chance.choice(victims[kind]).kill()
    if kind == "driver":
        process.wait()
        KILLED.append(process.pid)
    return kind


def torment(run_dir: Path, chance: Random, until: float) -> Counter[str]:
    """Run a chain to its end, with kills until a deadline; return the kills by kind."""
    kills: Counter[str] = Counter()
    for _ in range(MOST_STARTS):
        process = start(run_dir, sets=SMALLEST)
        while process.poll() is None:
            if time.monotonic() > until:
                process.wait(timeout=600)
                break
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(chance.uniform(*PAUSES_S))
            with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
                kills[kill_somebody(process, chance)] += 1
        assert process.returncode in (0, 1, -signal.SIGKILL), log_of(run_dir).read_text()[-3000:]
        if process.returncode == 0:
            return kills
    said = log_of(run_dir).read_text()[-3000:]
    raise AssertionError(f"no end after {MOST_STARTS} starts: {said}")


def seconds_of(run_dir: Path) -> float:
    times = [event["time"] for event in events(run_dir)]
    return max(times) - min(times)


def test_random_kills_change_nothing(
    undisturbed: Path, tmp_path: Path, fault_row: MakeRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = fault_row("1-8", "random kills of driver, workers and servers", "all")
    monkeypatch.delenv("PREFECT_API_URL")  # so that every chain has its own server, to be killed
    monkeypatch.setenv("PREFECT_HOME", new_home(tmp_path))
    chance = Random(0)
    began = time.monotonic()
    kills: Counter[str] = Counter()
    chains = 0
    while time.monotonic() - began < SOAK_S:
        run_dir = tmp_path / str(chains) / "chain"
        run_dir.parent.mkdir()
        kills += torment(run_dir, chance, began + SOAK_S)
        chains += 1
        assert result_of(run_dir) == result_of(undisturbed)
        assert examine(run_dir).is_sound
    wall = time.monotonic() - began
    productive = chains * seconds_of(undisturbed) / wall
    row.outcome = "resumed"
    who = ", ".join(f"{count} {kind}" for kind, count in kills.most_common())
    row.lost = (
        f"{chains} chains in {wall / 60:.0f} min, {kills.total()} kills ({who}), "
        f"productive {productive:.0%}"
    )
    assert set(kills) >= {"driver", "worker"}
