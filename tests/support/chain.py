"""A whole chain as its own process: start, wait, kill, and read its files."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flows.orchestration.cleanup import abandoned_servers
from pipeline.failpoints import VARIABLE
from pipeline.identity import Identity, identify
from pipeline.ledger import Ledger

ROOT = Path(__file__).resolve().parents[2]
SMALLEST = [
    *("--set", "data.num_samples=96", "--set", "data.shard_size=48"),
    *("--set", "halving.steps=[2,1]", "--set", "targets.keep=all"),
    *("--set", "guidance.updates=12", "--set", "halving.updates=12"),
    *("--set", "guidance.batch_size=32", "--set", "halving.batch_size=32"),
    *("--set", "evaluation.num_samples=24", "--set", "evaluation.w=[1]"),
    *("--set", "evaluation.baseline_steps=[1]", "--set", "compute.workers=1"),
    *("--set", "engine.checkpoint_every=4", "--set", "engine.keep_checkpoints=1"),
    *("--set", "engine.log_every=4"),
]
"""Two rounds in half a minute."""

INLINE = ("--profile", "infra/profiles/inline.yaml")
"""Without Ray, in one process: the same bytes, where the order of the stages is tested."""

TARGETS = "rounds/00-guidance/targets"
TRAIN = "rounds/00-guidance/train"

MADE = ("data", "teacher", "targets", "student", "reference", "samples", "report")
"""Kinds of artifacts that are bytes to be compared: all but what is told to MLflow."""

Process = subprocess.Popen[bytes]

KILLED: list[int] = []
"""Process groups of killed drivers. What they started may live on; end it with the tests."""

SERVERS: list[Identity] = []
"""Their Prefect servers, which the next run in the same directory ends."""


def start(run_dir: Path, *extra: str, sets: list[str] = SMALLEST, armed: str = "") -> Process:
    """Start the chain in a group of its own; `armed` is for its failpoints."""
    command = [
        *(sys.executable, "-m", "flows.cli.app", "run", "flows/recipes/gaussian.yaml"),
        *("--run-dir", str(run_dir), *sets, *extra),
    ]
    environment = {**os.environ, VARIABLE: armed}
    with log_of(run_dir).open("a") as log:
        return subprocess.Popen(
            command, cwd=ROOT, stdout=log, stderr=log, env=environment, start_new_session=True
        )


def log_of(run_dir: Path) -> Path:
    """Return the chain's terminal output."""
    return run_dir.parent / f"{run_dir.name}.log"


def finish(run_dir: Path, *extra: str, sets: list[str] = SMALLEST, armed: str = "") -> int:
    """Run the chain until it ends, or is killed at a failpoint; return its exit code."""
    process = start(run_dir, *extra, sets=sets, armed=armed)
    code = int(process.wait(timeout=600))
    if code < 0:
        KILLED.append(process.pid)
    return code


def wait_until_started(process: Process, run_dir: Path, stage: str) -> None:
    """Wait until a chain has begun a stage."""
    deadline = time.monotonic() + 300
    while not started(stage)(run_dir):
        assert process.poll() is None, log_of(run_dir).read_text()[-3000:]
        assert time.monotonic() < deadline, f"{stage} never began"
        time.sleep(0.05)


def kill_when(run_dir: Path, condition: Callable[[Path], bool], sets: list[str] = SMALLEST) -> None:
    """Start the chain and kill its driver when a condition on the run directory holds."""
    process = start(run_dir, sets=sets)
    deadline = time.monotonic() + 900
    while not condition(run_dir):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline, "the run never came to the point of the kill"
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    KILLED.append(process.pid)
    SERVERS.extend(identify(server) for server in abandoned_servers(run_dir))


def committed(run_dir: Path, kind: str, folder: str = "") -> int:
    """Count the recorded artifacts of a kind."""
    records = Ledger(run_dir).records() if (run_dir / "ledger").is_dir() else []
    return sum(a.kind == kind and a.path.startswith(folder) for a in records)


def has_checkpoint(folder: str) -> Callable[[Path], bool]:
    """Whether a round has a checkpoint."""
    return lambda run_dir: any((run_dir / "rounds" / folder / "checkpoints/ledger").glob("*.json"))


def events(run_dir: Path) -> list[dict[str, Any]]:
    """Return the events of the run."""
    path = run_dir / "events.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    return [json.loads(line) for line in lines]


def started(stage: str) -> Callable[[Path], bool]:
    """Whether a stage has begun."""

    def condition(run_dir: Path) -> bool:
        path = run_dir / "events.jsonl"
        lines = path.read_text().splitlines() if path.is_file() else []
        return any(f'"stage_started","stage":"{stage}"' in line for line in lines)

    return condition


def student_digests(run_dir: Path) -> dict[str, str]:
    """Digests of the students, by place."""
    return digests(run_dir, "student")


def digests(run_dir: Path, *kinds: str) -> dict[str, str]:
    """Digests of the artifacts of some kinds that verify, by place."""
    ledger = Ledger(run_dir)
    found = [each for each in ledger.records() if not kinds or each.kind in kinds]
    return {each.path: each.digest for each in found if ledger.damage(each) is None}


def result_of(run_dir: Path) -> tuple[dict[str, str], Any]:
    """Return what equal runs share: digests of artifacts, and the report."""
    return digests(run_dir, *MADE), report_of(run_dir)


def report_of(run_dir: Path) -> Any:
    """The numbers of its report."""
    return json.loads((run_dir / "report" / "report.json").read_text())
