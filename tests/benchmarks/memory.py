"""Peak memory of a training worker with pre-generated targets, and with its teacher beside it.

Every case is a fresh process that trains a short round and hands the student in, as a worker does.
Noted is the peak of resident memory when training ends; handing in comes on top of it in both.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Literal

from tests.benchmarks.round_jobs import round_job
from tests.benchmarks.round_worker import ENTERED, IDLE, TRAINED
from tests.benchmarks.rows import Row, Settings
from tests.benchmarks.sizes import DEMO, LARGE, Size

Mode = Literal["online", "pregenerated"]


def measure(settings: Settings) -> list[Row]:
    """Both sizes, both ways."""
    rows = []
    for size in (DEMO,) if settings.quick else (DEMO, LARGE):
        online = _peaks(settings.scratch / size.name / "online", size, "online")
        ahead = _peaks(settings.scratch / size.name / "ahead", size, "pregenerated")
        rows += [
            _row(size, "targets online", online, online),
            _row(size, "targets pre-generated", ahead, online),
        ]
    return rows


def _row(size: Size, how: str, peaks: dict[str, float], online: dict[str, float]) -> Row:
    return Row(
        name=f"{size.name}/{how}",
        what=f"{size.name}, batch {size.batch}: {how}; ratio to online, "
        "both less what an idle worker holds",
        value=peaks[TRAINED],
        unit="MB",
        ratio=_own(peaks) / _own(online),
        details={name: round(peak, 1) for name, peak in peaks.items()},
    )


def _own(peaks: dict[str, float]) -> float:
    return peaks[TRAINED] - peaks[IDLE]


def _peaks(folder: Path, size: Size, targets: Mode) -> dict[str, float]:
    job = round_job(folder, size, updates=3, targets=targets)
    path = folder / "job.json"
    path.write_text(json.dumps(job), encoding="utf-8")
    command = [sys.executable, "-m", "tests.benchmarks.round_worker", str(path)]
    subprocess.run(command, check=True)
    marks = json.loads((folder / "marks-0.json").read_text(encoding="utf-8"))["marks"]
    if marks[0]["name"] != ENTERED:
        raise ValueError(f"the worker's first mark is {marks[0]['name']}, not {ENTERED}")
    return {mark["name"]: mark["peak_mb"] for mark in marks}
