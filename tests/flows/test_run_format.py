"""A run directory of another format is refused by every command, and nothing in it is touched."""

import json
import shutil
from pathlib import Path

import pytest

from pipeline.errors import ConfigError
from pipeline.ledger import check_format
from tests.support.small_run import make_run
from tests.support.terminal import GAUSSIAN, invoke, snapshot

REFUSED = (
    "run has format 4, this version of Stepfold needs format 5; start a new run with another "
    "--run-dir, or use the version that wrote it"
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = make_run(tmp_path_factory.mktemp("made") / "run")
    for record in run_dir.glob("ledger/*.json"):
        record.write_text(json.dumps(json.loads(record.read_text()) | {"format_version": 4}))
    return run_dir


@pytest.fixture
def run_dir(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(made, tmp_path / "runs" / "run")
    return Path("runs/run")


@pytest.mark.parametrize(
    "command",
    [
        ("run", str(GAUSSIAN), "--run-dir", "runs/run"),
        ("plan", str(GAUSSIAN), "--run-dir", "runs/run"),
        ("status",),
        ("status", "-d", "runs/run"),
        ("logs", "-d", "runs/run"),
        ("report", "-d", "runs/run"),
        ("compare", "runs/run", "runs/run"),
        ("play", "runs/run"),
        ("approve", "-d", "runs/run"),
        ("evaluate", "runs/run"),
        ("verify", "runs/run"),
        ("repair", "runs/run"),
        ("clean", "runs/run"),
        ("clean", "--all", "--yes", "runs/run"),
        ("clean", "--stale", "runs/run"),
        ("ui", "-d", "runs/run"),
    ],
    ids=" ".join,
)
def test_a_run_of_another_format_is_refused_untouched(
    run_dir: Path, command: tuple[str, ...]
) -> None:
    before = snapshot(Path.cwd())
    code, output = invoke(*command)
    assert (code, REFUSED in output) == (2, True), output
    assert snapshot(Path.cwd()) == before


def test_stale_clean_leaves_it_and_goes_on_with_the_others(run_dir: Path) -> None:
    before = snapshot(run_dir)
    code, output = invoke("clean", "--stale")
    # the path before it may be folded in the table
    assert (code, REFUSED.removeprefix("run ") in output) == (0, True), output
    assert snapshot(run_dir) == before


@pytest.mark.parametrize("text", ["", "[]", '{"format_version": "x"}', "[" * 100_000])
def test_a_damaged_record_names_no_format(run_dir: Path, text: str) -> None:
    first, second, *_ = sorted(run_dir.glob("ledger/*.json"))
    first.write_text(text)
    with pytest.raises(ConfigError, match="format 4"):
        check_format(run_dir)
    second.write_text(second.read_text().replace('"format_version": 4', '"format_version": 5'))
    check_format(run_dir)
