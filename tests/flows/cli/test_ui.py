"""`stepfold ui`: the pages are local only, and the address of their store is not leaked
that every user can read in a list of processes."""

import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from infra.trackers.mlflow.tracker import MlflowTracker
from tests.support.doors import Watch, free_port
from tests.support.terminal import command, environment


@pytest.mark.needs_ray
def test_the_pages_are_local_and_do_not_reveal_their_store(
    tmp_path: Path,
) -> None:
    store = MlflowTracker(None, tmp_path / "runs", "stepfold")
    address, port = f"{store.uri}?cache=canary-7f3a9c51", free_port()
    output = tmp_path / "output.txt"
    profile = tmp_path / "profile.yaml"
    profile.write_text("tracking: {uri: 'env:STORE'}\nstorage: {root: runs}\n")
    with output.open("wb") as sink:
        process = subprocess.Popen(
            command("ui", "--profile", str(profile), "--port", str(port)),
            cwd=tmp_path,
            env=environment(STORE=address),
            stdout=sink,
            stderr=sink,
        )
    try:
        with Watch(process.pid) as watch:
            while "Ctrl-C stops it" not in output.read_text():
                assert process.poll() is None, output.read_text()
                time.sleep(0.5)
            family = [*psutil.Process(process.pid).children(recursive=True), process]
            arguments = [" ".join(psutil.Process(member.pid).cmdline()) for member in family]
            time.sleep(2)
        assert any(f":{port}" in name for name in watch.names)
        assert watch.doors == set()
        assert not any("canary-7f3a9c51" in line for line in arguments)
    finally:
        os.kill(process.pid, signal.SIGINT)
        process.wait(timeout=60)
    assert "canary-7f3a9c51" not in output.read_text()
