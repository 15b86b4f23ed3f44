"""`stepfold status` and `stepfold logs`: the state of a driver, and the last lines of its log."""

import json
import subprocess
from itertools import islice
from pathlib import Path

import pytest

from flows.cli.logs import tail
from pipeline.errors import ConfigError
from pipeline.identity import identify
from tests.support.terminal import GAUSSIAN, invoke


@pytest.fixture
def begun(workplace: Path) -> Path:
    """A run directory with a recipe and a log."""
    folder = workplace / "runs" / "one"
    (folder / "logs").mkdir(parents=True)
    (folder / "recipe.yaml").write_text(GAUSSIAN.read_text())
    (folder / "logs" / "run.log").write_text("".join(f"line {n}\n" for n in range(100)))
    return folder


def test_a_live_driver_is_distinguished_from_a_dead_one(begun: Path) -> None:
    assert "stopped" in invoke("status")[1]
    me = identify().model_dump()
    (begun / ".lock-holder.json").write_text(json.dumps(me))
    assert "running" in invoke("status")[1]
    with subprocess.Popen(["true"]) as gone:
        pass
    (begun / ".lock-holder.json").write_text(json.dumps({**me, "pid": gone.pid}))
    assert f"left by process {gone.pid}, which has ended" in invoke("status")[1]


def test_the_last_lines_are_printed_and_added_lines_follow(begun: Path) -> None:
    assert invoke("logs", "--lines", "2") == (0, "line 98 line 99")
    log = begun / "logs" / "run.log"
    lines = tail(log, 1, follow=True)
    assert next(lines) == "line 99"
    with log.open("a") as file:
        file.write("three\nfour\n")
    assert list(islice(lines, 2)) == ["three", "four"]
    with pytest.raises(ConfigError, match="log is written"):
        list(tail(begun / "run.log", 1, follow=False))


@pytest.mark.parametrize("command", ["status", "logs"])
def test_without_a_run_it_is_refused(command: str, workplace: Path) -> None:
    code, output = invoke(command)
    assert (code, str(workplace / "runs") in output) == (2, True)
    code, output = invoke(command, "--run-dir", "nope")
    assert (code, "nope" in output) == (2, True)
