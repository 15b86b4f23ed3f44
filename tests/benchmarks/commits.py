"""What hashing and syncing cost a whole chain, as a share of its wall time.

The chain runs with a clock in every one of its processes: around each fsync of a commit, and around
each sha256 of a file or of a member of a shard, written or verified. Seconds of all processes are
added up, though some of them pass while others compute: an upper bound.
"""

import os
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

from tests.benchmarks.rows import Row, Settings, at_most
from tests.chain import SMALLEST

MOST = 0.03
_ROOT = Path(__file__).resolve().parents[2]
_CLOCK = Path(__file__).with_name("commit_clock")
_DEMO = ["flows/recipes/digits.yaml", "--profile", "infra/profiles/laptop.yaml"]


def measure(settings: Settings) -> list[Row]:
    """The demo from its beginning, in a directory of its own."""
    folder = settings.scratch / "clock"
    folder.mkdir()
    recipe = ["flows/recipes/gaussian.yaml", *SMALLEST] if settings.quick else _DEMO
    command = [sys.executable, "-m", "flows.cli", "run", *recipe]
    environment = {
        name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")
    }
    paths = [str(_CLOCK), *filter(None, [os.environ.get("PYTHONPATH")])]
    began = time.monotonic()
    subprocess.run(
        [*command, "--run-dir", str(settings.scratch / "runs" / "demo")],
        cwd=_ROOT,
        env={
            **environment,
            "PYTHONPATH": os.pathsep.join(paths),
            "STEPFOLD_COMMIT_CLOCK": str(folder),
        },
        stdout=subprocess.DEVNULL,
        check=True,
    )
    wall = time.monotonic() - began
    seconds, calls = _add_up(folder)
    cost = sum(seconds.values())
    return [
        Row(
            name="commits/share",
            what="hashing and syncing in all processes over the wall time of the demo",
            value=cost,
            unit="s",
            ratio=cost / wall,
            details={
                "wall_s": round(wall, 1),
                **{f"{name}_s": round(each, 3) for name, each in seconds.items()},
                **{f"{name}_calls": calls[name] for name in seconds},
            },
            **at_most(MOST, cost / wall),
        )
    ]


def _add_up(folder: Path) -> tuple[dict[str, float], dict[str, int]]:
    seconds: dict[str, float] = defaultdict(float)
    calls: dict[str, int] = defaultdict(int)
    for file in folder.iterdir():
        for line in file.read_text(encoding="utf-8").splitlines():
            name, _, took = line.rpartition(" ")
            seconds[name] += float(took)
            calls[name] += 1
    return dict(seconds), dict(calls)
