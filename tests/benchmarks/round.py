"""The fixed cost of a round, part by part: from the call of `fit` to the first update, and the end.

The laptop profile on a Ray of our own, and a halving round of the demo's size. The worker is
`stages.rounds.train_worker` with the time noted between its statements. Starts Ray.
"""

import json
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from infra.launch import fit
from infra.ray.cluster import cluster
from pipeline.config.profile import Profile, default_profile
from pipeline.documents import build, read_yaml
from tests.benchmarks.round_jobs import round_job
from tests.benchmarks.round_worker import ENTERED, FIRST_UPDATE
from tests.benchmarks.rows import Row, Settings, at_most
from tests.benchmarks.sizes import DEMO

LIMIT_S = 15.0
_UPDATES = 20


def measure(settings: Settings) -> list[Row]:
    """Start Ray, then train two rounds in it: the first one, and what every later one costs."""
    path = default_profile()
    profile = build(Profile, read_yaml(path), path.name)
    began = time.time()
    rows = []
    with cluster(profile, settings.scratch / "logs"):
        rows.append(_row("ray up", "once a run: Ray starts", time.time() - began))
        for number in range(settings.count(2, 1)):
            rows += _round(settings.scratch / f"round-{number}", profile, number)
        ended = time.time()
    return [*rows, _row("ray down", "once a run: Ray stops", time.time() - ended)]


def _round(folder: Path, profile: Profile, number: int) -> list[Row]:
    job = round_job(folder, DEMO, updates=_UPDATES, targets="pregenerated")
    called = time.time()
    fit("tests.benchmarks.round_worker:train", job, profile, f"bench-{number}", folder / "ray")
    returned = time.time()
    found = [_read(folder / f"marks-{rank}.json") for rank in range(profile.compute.workers)]
    slowest = max(found, key=lambda each: each["at"][FIRST_UPDATE])
    at, which = slowest["at"], f"round {number + 1}"
    booted = at[ENTERED] - max(called, slowest["process_started"])
    first = at[FIRST_UPDATE] - called
    rows = [
        _row(
            f"{which}/ray",
            f"{which}: Ray starts controller and workers, which import ray and torch",
            at[ENTERED] - called,
            {"of which the worker's own process": round(booted, 2)},
        )
    ]
    for (_, before), (name, after) in pairwise(at.items()):
        rows.append(_row(f"{which}/{name}", f"{which}: {name}", after - before))
    ended = max(max(each["at"].values()) for each in found)
    rows.append(_row(f"{which}/return", f"{which}: Ray ends the fit", returned - ended))
    what = f"{which}: fit called to first update made, all workers"
    return [*rows, _row(f"{which}/total", what, first, limit=LIMIT_S)]


def _read(path: Path) -> dict[str, Any]:
    tree = json.loads(path.read_text(encoding="utf-8"))
    return {**tree, "at": {mark["name"]: mark["time"] for mark in tree["marks"]}}


def _row(
    name: str,
    what: str,
    seconds: float,
    details: dict[str, Any] | None = None,
    limit: float | None = None,
) -> Row:
    target = {} if limit is None else at_most(limit, seconds)
    return Row(name=name, what=what, value=seconds, unit="s", details=details or {}, **target)
