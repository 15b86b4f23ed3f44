"""`stepfold status`: running, stopped, or left by a driver that died."""

import json
import subprocess
from pathlib import Path

import pytest

from pipeline.identity import identify
from tests.support.terminal import GAUSSIAN, invoke


def test_a_live_driver_is_told_from_a_dead_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "one"
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(GAUSSIAN.read_text())
    assert "stopped" in invoke("status")[1]
    me = identify().model_dump()
    (folder / ".lock-holder.json").write_text(json.dumps(me))
    assert "running" in invoke("status")[1]
    with subprocess.Popen(["true"]) as gone:
        pass
    (folder / ".lock-holder.json").write_text(json.dumps({**me, "pid": gone.pid}))
    assert f"left by process {gone.pid}, which has ended" in invoke("status")[1]


def test_without_a_run_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for command in ("status", "logs"):
        code, output = invoke(command)
        assert (code, str(tmp_path / "runs") in output) == (2, True)
        code, output = invoke(command, "--run-dir", "nope")
        assert (code, "nope" in output) == (2, True)
