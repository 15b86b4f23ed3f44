"""Every command refuses a run directory of another format, and changes nothing in it."""

import json
from pathlib import Path

import pytest

from pipeline.errors import ConfigError
from pipeline.ledger import check_format
from tests.support.terminal import GAUSSIAN, invoke, snapshot

REFUSED = (
    "run has format 5, this version of Stepfold needs format 8; start a new run with another "
    "--run-dir, or use the version that wrote it"
)


@pytest.fixture(autouse=True)
def old_run(run_dir: Path) -> Path:
    for record in run_dir.glob("ledger/*.json"):
        record.write_text(json.dumps(json.loads(record.read_text()) | {"format_version": 5}))
    return run_dir


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
def test_a_run_of_another_format_is_refused_untouched(command: tuple[str, ...]) -> None:
    before = snapshot(Path.cwd())
    code, output = invoke(*command)
    assert (code, REFUSED in output) == (2, True), output
    assert snapshot(Path.cwd()) == before


def test_stale_clean_leaves_it_and_goes_on_with_the_others(old_run: Path) -> None:
    before = snapshot(old_run)
    code, output = invoke("clean", "--stale")
    # the path before it may be folded in the table
    assert (code, REFUSED.removeprefix("run ") in output) == (0, True), output
    assert snapshot(old_run) == before


@pytest.mark.parametrize("text", ["", "[]", '{"format_version": "x"}', "[" * 100_000])
def test_a_damaged_record_names_no_format(old_run: Path, text: str) -> None:
    first, second, *_ = sorted(old_run.glob("ledger/*.json"))
    first.write_text(text)
    with pytest.raises(ConfigError, match="format 5"):
        check_format(old_run)
    second.write_text(second.read_text().replace('"format_version": 5', '"format_version": 8'))
    check_format(old_run)
