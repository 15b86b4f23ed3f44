"""The machine under a chain: a full disk, a Ray whose head dies, other clocks and languages."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipeline.ledger import Ledger
from pipeline.tracking import read_metrics
from tests.faults.conftest import MakeRow
from tests.support.chain import (
    ROOT,
    SMALLEST,
    TARGETS,
    TRAIN,
    digests,
    finish,
    log_of,
    result_of,
    start,
    wait_until_started,
)

pytestmark = [pytest.mark.nightly, pytest.mark.needs_ray]


def with_own_mounts(script: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script in a mount namespace, which needs no privileges."""
    return subprocess.run(
        ["unshare", "-rm", "sh", "-c", script],
        cwd=ROOT,
        timeout=900,
        check=False,
        capture_output=True,
        text=True,
    )


# A disk of its own for the run. Something else fills it when the stage begins; then it is given
# room, and the same command goes on. Exit codes are kept in files.
FULL_DISK = """
set -u
mount -t tmpfs -o size=200m none {disk}
fill() {{
    until grep -q '"stage_started","stage":"{stage}"' {disk}/chain/events.jsonl; do sleep 0.02; done
    dd if=/dev/zero of={disk}/filler bs=4k status=none
}}
fill 2>/dev/null &
{command} > {log} 2>&1; echo "$?" > {log}.code
wait
cp -r {disk}/chain {kept}
rm {disk}/filler
{command} > {log}.again 2>&1; echo "$?" > {log}.again.code
cp -r {disk}/chain {final}
"""


@pytest.mark.parametrize("stage", [TARGETS, TRAIN], ids=["targets", "train"])
def test_a_disk_that_fills_in_a_stage_loses_nothing(
    stage: str, undisturbed: Path, tmp_path: Path, fault_row: MakeRow
) -> None:
    row = fault_row("10", "another program fills the disk", stage.rpartition(", ")[2])
    disk, log = tmp_path / "disk", tmp_path / "log"
    disk.mkdir()
    command = [
        *(sys.executable, "-m", "flows.cli.app", "run", "flows/recipes/gaussian.yaml"),
        *("--run-dir", str(disk / "chain"), *SMALLEST),
        *("--set", f"tracking.uri=sqlite:///{tmp_path}/mlflow.db"),
    ]
    script = FULL_DISK.format(
        disk=disk,
        stage=stage,
        command=shlex.join(command),
        log=log,
        kept=tmp_path / "kept",
        final=tmp_path / "final",
    )
    done = with_own_mounts(script)
    assert done.returncode == 0, done.stderr
    said = log.read_text()
    assert (tmp_path / "log.code").read_text() == "1\n", said[-3000:]
    assert "No space left on device" in said
    kept = Ledger(tmp_path / "kept")
    assert kept.records()
    assert all(kept.damage(artifact) is None for artifact in kept.records())
    assert (tmp_path / "log.again.code").read_text() == "0\n"
    row.outcome = "resumed"
    assert result_of(tmp_path / "final") == result_of(undisturbed)


def test_a_disk_too_small_is_refused_at_the_start(tmp_path: Path, fault_row: MakeRow) -> None:
    row = fault_row("10", "the disk is nearly full at the start", "all")
    disk = tmp_path / "disk"
    disk.mkdir()
    script = (
        f"mount -t tmpfs -o size=2m none {disk} && {sys.executable} -m flows.cli.app run "
        f"flows/recipes/gaussian.yaml --run-dir {disk}/chain; code=$?; ls -A {disk}; exit $code"
    )
    done = with_own_mounts(script)
    row.outcome = "refused"
    assert done.returncode == 2, done.stdout + done.stderr
    said = " ".join((done.stdout + done.stderr).split())
    assert "not enough disk: about" in said
    assert "2.1 MB free" in said
    assert "chain" not in done.stdout.splitlines()[-1:]  # nothing was created


def test_rays_head_dies_and_the_same_command_goes_on(
    undisturbed: Path, tmp_path: Path, fault_row: MakeRow
) -> None:
    run_dir = tmp_path / "chain"
    row = fault_row("21b", "Ray's head (GCS) killed", "train")
    process = start(run_dir, sets=SMALLEST)
    wait_until_started(process, run_dir, TRAIN)
    family = psutil.Process(process.pid).children(recursive=True)
    (head,) = [each for each in family if "gcs_server" in each.name()]
    head.send_signal(signal.SIGKILL)
    began = time.monotonic()
    assert process.wait(timeout=300) not in (0, 2)
    row.noticed_s = time.monotonic() - began
    began = time.monotonic()
    assert finish(run_dir, sets=SMALLEST) == 0, log_of(run_dir).read_text()[-3000:]
    row.recovered_s = time.monotonic() - began
    row.outcome, row.lost = "resumed", "from the last checkpoint"
    assert result_of(run_dir) == result_of(undisturbed)
    assert row.noticed_s <= 60


def test_a_batch_larger_than_the_data_takes_samples_again(prefect: None, tmp_path: Path) -> None:
    run_dir = tmp_path / "chain"
    assert finish(run_dir, "--set", "guidance.batch_size=160", sets=SMALLEST) == 0
    metrics = read_metrics(run_dir / "rounds/00-guidance/metrics.jsonl")
    assert max(line["samples_seen"] for line in metrics) == 12 * 160


def test_other_clocks_and_languages_change_nothing(
    undisturbed: Path, tmp_path: Path, fault_row: MakeRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = tmp_path / "chain"
    row = fault_row("27", "TZ 14 h ahead, ASCII locale", "all")
    for name, value in {
        "TZ": "Pacific/Kiritimati",
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
    }.items():
        monkeypatch.setenv(name, value)
    assert finish(run_dir, sets=SMALLEST) == 0, log_of(run_dir).read_text(errors="replace")[-3000:]
    row.outcome, row.lost = "resumed", "nothing"
    assert result_of(run_dir) == result_of(undisturbed)


def test_a_clock_that_is_set_back_between_two_starts_changes_nothing(
    undisturbed: Path, tmp_path: Path, fault_row: MakeRow
) -> None:
    run_dir = tmp_path / "workspace" / "chain"
    shutil.copytree(undisturbed.parent, run_dir.parent)
    row = fault_row("27", "records a day in the future", "all")
    ahead = time.time() + 86_400
    for path in run_dir.rglob("*"):
        os.utime(path, (ahead, ahead))
    before = digests(run_dir)
    assert finish(run_dir, sets=SMALLEST) == 0, log_of(run_dir).read_text()[-3000:]
    row.outcome, row.lost = "resumed", "nothing"
    assert digests(run_dir) == before
