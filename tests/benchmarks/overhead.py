"""What a chain does besides distilling: hashing and syncing, and telling those who watch.

The chain runs with a clock in every one of its processes. Around each fsync of a commit and each
sha256 of a file or of a member of a shard, written or verified: a share of the chain. Around each
line of metrics, and all that the driver tells MLflow and Prefect while nothing else goes on,
pictures included: a share of the rounds. Seconds of all processes are added up, though some of them
pass while others compute: upper bounds.
"""

import os
import subprocess
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

from tests.benchmarks.rows import Row, Settings, at_most
from tests.support.chain import SMALLEST, events

MOST_COMMITS, MOST_WATCHING = 0.03, 0.01
_ROOT = Path(__file__).resolve().parents[2]
_CLOCK = Path(__file__).with_name("clock")
_DEMO = ["flows/recipes/digits.yaml", "--profile", "infra/profiles/laptop.yaml"]
_KINDS = {"commits": ("sync", "hash"), "watching": ("tell", "show")}

Clocks = tuple[dict[str, float], dict[str, int]]  # seconds and calls by what was done


def measure(settings: Settings) -> list[Row]:
    """The demo from its beginning, in a directory of its own."""
    folder, run_dir = settings.scratch / "clock", settings.scratch / "runs" / "demo"
    folder.mkdir()
    wall = _run(settings, folder, run_dir)
    clocks = _read(folder)
    rounds = sum(
        event["seconds"]
        for event in events(run_dir)
        if event["kind"] == "stage_done" and event["stage"].startswith(("teacher", "rounds/"))
    )
    return [
        _row("commits", "hashing and syncing over the wall time", clocks, wall, MOST_COMMITS),
        _row("watching", "telling MLflow and Prefect over rounds", clocks, rounds, MOST_WATCHING),
    ]


def _run(settings: Settings, folder: Path, run_dir: Path) -> float:
    recipe = ["flows/recipes/gaussian.yaml", *SMALLEST] if settings.quick else _DEMO
    command = [sys.executable, "-m", "flows.cli.app", "run", *recipe, "--run-dir", str(run_dir)]
    environment = {
        name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")
    }
    paths = [str(_CLOCK), *filter(None, [os.environ.get("PYTHONPATH")])]
    began = time.monotonic()
    subprocess.run(
        command,
        cwd=_ROOT,
        env={
            **environment,
            "PYTHONPATH": os.pathsep.join(paths),
            "STEPFOLD_CLOCK": str(folder),
        },
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return time.monotonic() - began


def _row(name: str, what: str, clocks: Clocks, whole: float, most: float) -> Row:
    seconds, calls = clocks
    parts = [each for each in seconds if each.startswith(_KINDS[name])]
    cost = sum(seconds[each] for each in parts)
    return Row(
        name=f"overhead/{name}",
        what=f"{what} of the demo, all processes added up",
        value=cost,
        unit="s",
        ratio=cost / whole,
        details={
            "of_s": round(whole, 1),
            **{f"{each}_s": round(seconds[each], 3) for each in parts},
            **{f"{each}_calls": calls[each] for each in parts},
        },
        **at_most(most, cost / whole),
    )


def _read(folder: Path) -> Clocks:
    seconds: defaultdict[str, float] = defaultdict(float)
    calls: Counter[str] = Counter()
    for file in folder.iterdir():
        for line in file.read_text(encoding="utf-8").splitlines():
            name, _, took = line.rpartition(" ")
            seconds[name] += float(took)
            calls[name] += 1
    return dict(seconds), dict(calls)
