"""`stepfold logs`: the last lines, and what is added to them."""

from itertools import islice
from pathlib import Path

import pytest

from flows.cli.logs import tail
from pipeline.errors import ConfigError
from tests.support.terminal import GAUSSIAN, invoke


def test_the_last_lines_are_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "one"
    (folder / "logs").mkdir(parents=True)
    (folder / "recipe.yaml").write_text(GAUSSIAN.read_text())
    (folder / "logs" / "run.log").write_text("".join(f"line {n}\n" for n in range(100)))
    assert invoke("logs", "--lines", "2") == (0, "line 98 line 99")


def test_added_lines_follow(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    log.write_text("one\ntwo\n")
    lines = tail(log, 1, follow=True)
    assert next(lines) == "two"
    with log.open("a") as file:
        file.write("three\nfour\n")
    assert list(islice(lines, 2)) == ["three", "four"]


def test_a_missing_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="log is written"):
        list(tail(tmp_path / "run.log", 1, follow=False))
