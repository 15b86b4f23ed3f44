"""Faults of the machine: a full disk, a dead Ray head, other clocks and locales."""

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipeline.ledger import Ledger
from tests.faults.conftest import DisturbedChain, MakeRow
from tests.support.chain import (
    INLINE,
    ROOT,
    SMALLEST,
    TARGETS,
    TRAIN,
    digests,
    finish,
    log_of,
    result_of,
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


def test_rays_head_dies_and_the_same_command_resumes(
    chain: DisturbedChain, fault_row: MakeRow
) -> None:
    row = fault_row("21b", "Ray's head (GCS) killed", "train")
    process = chain.start(TRAIN)
    family = psutil.Process(process.pid).children(recursive=True)
    (head,) = [each for each in family if "gcs_server" in each.name()]
    head.send_signal(signal.SIGKILL)
    began = time.monotonic()
    assert process.wait(timeout=300) not in (0, 2)
    row.noticed_s = time.monotonic() - began
    row.recovered_s = chain.finish()
    row.outcome, row.lost = "resumed", "from the last checkpoint"
    chain.check_result()
    assert row.noticed_s <= 60


def test_other_clocks_and_languages_change_nothing(
    chain: DisturbedChain, fault_row: MakeRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = fault_row("27", "TZ 14 h ahead, ASCII locale", "all")
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("PYTHONUTF8", "0")
    monkeypatch.setenv("PYTHONCOERCECLOCALE", "0")
    chain.finish()
    row.outcome, row.lost = "resumed", "nothing"
    chain.check_result()


def test_a_clock_that_is_set_back_between_two_starts_changes_nothing(
    finished_copy: Path, fault_row: MakeRow
) -> None:
    row = fault_row("27", "records a day in the future", "all")
    ahead = time.time() + 86_400
    for path in finished_copy.rglob("*"):
        os.utime(path, (ahead, ahead))
    before = digests(finished_copy)
    assert finish(finished_copy, *INLINE, sets=SMALLEST) == 0, log_of(finished_copy).read_text()
    row.outcome, row.lost = "resumed", "nothing"
    assert digests(finished_copy) == before
