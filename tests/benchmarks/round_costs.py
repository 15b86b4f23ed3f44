"""Costs of a round besides its updates: the time until the first one, and memory.

A worker is the product's own (`stages.rounds.train_worker.train_with`), with time and memory noted
on the way. Ray calls `train` by name; `python -m tests.benchmarks.round_costs JOB.json` trains
without Ray, as the only worker.
"""

import json
import logging
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import psutil

from tests.benchmarks.harness import Row, Settings, at_most

ATTEMPT = "benchmark"
LIMIT_S = 15.0
ENTERED, IDLE = "entered", "imports of deepspeed and diffusers"
FIRST_UPDATE, TRAINED, SAVED = "first update", "trained", "student saved"


def round_job(
    folder: Path, name: str, *, updates: int, targets: Literal["pregenerated", "online"]
) -> dict[str, Any]:
    """A halving round of random networks and data as JSON for a worker.

    Args:
        folder: everything is written there, marks too; it does not exist.
        name: of the network's size, "demo" or "50M".
        updates: of the round.
        targets: read from disk, or computed in the worker by the teacher.
    """
    from pipeline.config import TrainingConfig
    from pipeline.training.checkpoint import claim
    from tests.benchmarks.sizes import SIZES, write_bundle, write_targets

    folder.mkdir(parents=True)
    size = SIZES[name]
    training = TrainingConfig(updates=updates, batch_size=size.batch, learning_rate=1e-4)
    plan = size.plan().model_copy(update={"training": training})
    manifest = size.manifest().model_copy(update={"steps": (8,), "jump": 2})
    rows = max(256, size.batch)
    written = write_targets(folder / "targets", size.latent_shape, tars=2, members=1, rows=rows)
    tars = [str(tar) for tar in written.tars] if targets == "pregenerated" else None
    claim(folder / "checkpoints", ATTEMPT)
    return {
        "plan": plan.model_dump(mode="json"),
        "key": "benchmark",
        "attempt": ATTEMPT,
        "manifest": manifest.model_dump(mode="json"),
        "teacher": str(write_bundle(folder / "teacher", size, "student")),
        "data": str(written.data),
        "targets": tars,
        "output": str(folder / "student"),
        "checkpoints": str(folder / "checkpoints"),
        "metrics": str(folder / "metrics.jsonl"),
        "engine": {"zero_stage": 1, "checkpoint_every": 10**6},
    }


def measure_start(settings: Settings) -> list[Row]:
    """Time from the call of `fit` to the first update, part by part, and of ending a round.

    The laptop profile on a Ray of its own; the first round in a Ray, and a later one.
    """
    from infra.ray.cluster import cluster
    from pipeline.config.profile import Profile, default_profile
    from pipeline.documents import build, read_yaml

    path = default_profile()
    profile = build(Profile, read_yaml(path), path.name)
    began = time.time()
    rows = []
    with cluster(profile, settings.scratch / "logs"):
        rows.append(_seconds("ray up", "once a run: Ray starts", time.time() - began))
        for number in range(settings.count(2, 1)):
            rows += _start_of(settings.scratch / f"round-{number}", profile, number)
        ended = time.time()
    return [*rows, _seconds("ray down", "once a run: Ray stops", time.time() - ended)]


def _start_of(folder: Path, profile: Any, number: int) -> list[Row]:
    from infra.launch import fit

    job = round_job(folder, "demo", updates=20, targets="pregenerated")
    called, which = time.time(), f"round {number + 1}"
    fit("tests.benchmarks.round_costs:train", job, profile, f"bench-{number}", folder / "ray")
    returned = time.time()
    found = [
        json.loads((folder / f"marks-{rank}.json").read_text(encoding="utf-8"))
        for rank in range(profile.compute.workers)
    ]
    times = [{mark["name"]: mark["time"] for mark in each["marks"]} for each in found]
    slowest = max(times, key=lambda at: at[FIRST_UPDATE])
    started = found[times.index(slowest)]["process_started"]
    booted = slowest[ENTERED] - max(called, started)
    ended = max(at[SAVED] for at in times)
    return [
        _seconds(
            f"{which}/ray",
            f"{which}: Ray starts controller and workers, which import ray and torch "
            f"(the worker's own process: {booted:.1f} s)",
            slowest[ENTERED] - called,
        ),
        *(
            _seconds(f"{which}/{name}", f"{which}: {name}", after - before)
            for (_, before), (name, after) in pairwise(slowest.items())
        ),
        _seconds(f"{which}/return", f"{which}: Ray ends the fit", returned - ended),
        _seconds(
            f"{which}/total",
            f"{which}: call of fit to first update, all workers",
            slowest[FIRST_UPDATE] - called,
            limit=LIMIT_S,
        ),
    ]


def _seconds(name: str, what: str, seconds: float, limit: float | None = None) -> Row:
    target = {} if limit is None else at_most(limit, seconds)
    return Row(name=name, what=what, value=seconds, unit="s", **target)


def measure_memory(settings: Settings) -> list[Row]:
    """Peak memory of a worker with pregenerated targets, and with its teacher beside it.

    Every case is a fresh process that trains a short round. Noted is the peak of resident memory
    when training ends; saving the student comes on top of it in both.
    """
    rows = []
    for size in ("demo",) if settings.quick else ("demo", "50M"):
        online = _peaks(settings.scratch / size / "online", size, "online")
        for how, peaks in (
            ("online", online),
            ("pregenerated", _peaks(settings.scratch / size / "ahead", size, "pregenerated")),
        ):
            own = [each[TRAINED] - each[IDLE] for each in (peaks, online)]
            rows.append(
                Row(
                    name=f"{size}/targets {how}",
                    what=f"{size}: targets {how}; ratio to online, less what an idle worker holds",
                    value=peaks[TRAINED],
                    unit="MB",
                    ratio=own[0] / own[1],
                    details={name: round(peak, 1) for name, peak in peaks.items()},
                )
            )
    return rows


def _peaks(folder: Path, size: str, targets: Literal["pregenerated", "online"]) -> dict[str, float]:
    job = round_job(folder, size, updates=3, targets=targets)
    path = folder / "job.json"
    path.write_text(json.dumps(job), encoding="utf-8")
    subprocess.run([sys.executable, "-m", "tests.benchmarks.round_costs", str(path)], check=True)
    marks = json.loads((folder / "marks-0.json").read_text(encoding="utf-8"))["marks"]
    return {mark["name"]: mark["peak_mb"] for mark in marks}


class Marks:
    """The time of a mark, and the peak memory of the process so far."""

    def __init__(self) -> None:
        self.found: list[dict[str, Any]] = []

    def add(self, name: str) -> None:
        """Set the mark `name`; only the first call counts."""
        if name not in {mark["name"] for mark in self.found}:
            self.found.append({"name": name, "time": time.time(), "peak_mb": peak_mb()})

    def write(self, path: Path) -> None:
        """Return the marks as JSON."""
        started = psutil.Process().create_time()
        tree = {"process_started": started, "marks": self.found}
        path.write_text(json.dumps(tree), encoding="utf-8")


def peak_mb() -> float:
    """Return the peak memory of this process, MB.

    Not `ru_maxrss`: Linux hands a parent's down to the programs it starts.
    """
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    (line,) = (line for line in lines if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 / 1e6


def train(payload: dict[str, Any]) -> None:
    """Train a `round_job` on this rank; leaves `marks-<rank>.json` beside its output."""
    marks = Marks()
    marks.add(ENTERED)
    from stages.rounds.train_worker import RoundJob, train_with

    marks.add("imports of the product")
    from infra.deepspeed.engine import DeepSpeedEngine, import_deepspeed
    from pipeline.models.assemble import family_of

    job = RoundJob.model_validate(payload)
    import_deepspeed()
    family_of(job.manifest)
    marks.add(IDLE)

    class MarkedEngine(DeepSpeedEngine):
        """Sets marks at the first update and at the end of training."""

        def step(self) -> float:
            norm = super().step()
            marks.add(FIRST_UPDATE)
            return norm

        def full_weights(self) -> Any:
            marks.add(TRAINED)
            return super().full_weights()

    ranks = []

    def open_engine(module: Any, plan: Any) -> DeepSpeedEngine:
        marks.add("student from its teacher's bundle")
        engine = MarkedEngine(
            module,
            plan,
            global_batch=job.plan.training.batch_size,
            zero_stage=job.engine.zero_stage,
            precision=job.engine.precision,
        )
        marks.add("engine")
        ranks.append(engine.rank)
        return engine

    train_with(job, open_engine)
    marks.add(SAVED)
    marks.write(Path(job.output).parent / f"marks-{ranks[0]}.json")


def main() -> None:
    """Run as the only worker."""
    sys.modules["mlflow"] = None  # type: ignore[assignment] # as in infra.ray.worker.train_loop
    from infra.ray.worker import prepare_process

    prepare_process(1)
    logging.getLogger().setLevel(logging.ERROR)
    train(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
