"""How `stepfold run` ends: by Ctrl-C, or by a failure, with the way on in its last words."""

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from pipeline.ledger import Ledger
from tests.support.terminal import GAUSSIAN, command, environment

TINY = [
    *("--set", "data.num_samples=256", "--set", "data.shard_size=128"),
    *("--set", "guidance.updates=4", "--set", "guidance.batch_size=32"),
    *("--set", "halving.updates=4", "--set", "halving.batch_size=32"),
]


def start(root: Path, *options: str, recipe: Path = GAUSSIAN) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command("run", str(recipe), "--run-dir", "chain", *options),
        cwd=root,
        env=environment(PREFECT_HOME=str(root / "prefect")),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def events(root: Path) -> list[dict[str, object]]:
    path = root / "chain" / "events.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.is_file() else []
    return [json.loads(line) for line in lines]


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "stage", "sign"),
    [
        (signal.SIGINT, "pre-generate", "events.jsonl"),
        # while updates are made and Ray waits, where other handlers' exceptions are lost
        pytest.param(
            *(signal.SIGTERM, "distil", "rounds/00-guidance/metrics.jsonl"),
            marks=pytest.mark.faults,
        ),
    ],
)
def test_a_signal_ends_with_130_and_what_is_committed_stays(
    tmp_path: Path, number: signal.Signals, stage: str, sign: str
) -> None:
    with start(tmp_path, *TINY) as process:
        while not (
            (tmp_path / "chain" / sign).exists()
            and any(stage in str(event.get("label")) for event in events(tmp_path))
        ):
            assert process.poll() is None
            time.sleep(0.2)
        process.send_signal(number)
        said, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    stopped, log, onward = said.splitlines()[-3:]
    assert stopped.startswith("Stopped  in round 0")
    assert log == "Log      chain/logs/run.log"
    assert onward.startswith("Continue stepfold run ")
    assert "--run-dir chain" in onward
    assert {"data", "teacher"} <= {
        artifact.kind for artifact in Ledger(tmp_path / "chain").records()
    }
    assert events(tmp_path)[-1]["kind"] == "run_interrupted"


@pytest.mark.cluster
@pytest.mark.slow
def test_sigterm_ends_with_130_while_the_driver_itself_works(tmp_path: Path) -> None:
    captions = GAUSSIAN.with_name("captions.yaml")
    few = ("--set", "data.count=100", "--set", "data.holdout_count=50")
    # hours of them, and told ten times at most
    long = ("--set", "teacher.components.text_encoder_updates=1000000")
    with start(tmp_path, *few, *long, recipe=captions) as process:
        while not any(event.get("label") == "components" for event in events(tmp_path)):
            assert process.poll() is None
            time.sleep(0.2)
        time.sleep(2)  # imports are over, or not: both are the driver's own work
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert said.splitlines()[-3].startswith("Stopped  in components")
    assert events(tmp_path)[-1]["kind"] == "run_interrupted"


@pytest.mark.cluster
@pytest.mark.slow
def test_a_failure_ends_with_1_and_one_paragraph(tmp_path: Path) -> None:
    with start(tmp_path, *TINY, "--set", "guidance.learning_rate=1.0e+38") as process:
        said, _ = process.communicate(timeout=400)
    assert process.returncode == 1
    failed, log, onward = said.splitlines()[-3:]
    assert failed.startswith("Failed   round 0")
    assert "not finite" in failed or "loss is" in failed
    assert log == "Log      chain/logs/run.log"
    assert "guidance.learning_rate=1.0e+38" in onward
    assert "Traceback" not in said
    assert "Traceback" in (tmp_path / "chain" / "logs" / "run.log").read_text()
    assert events(tmp_path)[-1]["kind"] == "run_failed"
