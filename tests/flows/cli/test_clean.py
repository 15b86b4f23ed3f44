"""`stepfold clean` removes files that are no longer needed, and nothing else."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from flows.cli.clean import clean_all, clean_finished
from pipeline.errors import BusyError, ConfigError
from pipeline.ledger import Ledger, lock_run_dir
from pipeline.run_dir.recipe_file import prepare_run_dir
from tests.support.small_run import small_recipe
from tests.support.terminal import invoke, snapshot


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    run_dir = tmp_path / "run"
    prepare_run_dir(small_recipe(), run_dir, accept_changes=False)
    ledger = Ledger(run_dir)

    def write(folder: Path) -> dict[str, int]:
        (folder / "content").write_text("x" * 100)
        return {}

    ledger.publish("data", "00" * 32, "data", write)
    ledger.publish("targets", "01" * 32, "rounds/00-guidance/targets/pass-000-shard-00000", write)
    ledger.publish("student", "02" * 32, "rounds/00-guidance/student", write)
    ledger.publish("targets", "03" * 32, "rounds/01-4-to-2/targets/pass-000-shard-00000", write)
    for place in ("rounds/00-guidance", "rounds/01-4-to-2"):
        (run_dir / place / "checkpoints").mkdir()
        (run_dir / place / "checkpoints" / "state").write_text("x" * 10)
    (run_dir / "rounds" / "01-4-to-2" / "targets" / ".pass-001.ab12.tmp").mkdir()
    return run_dir


def test_finished_rounds_lose_targets_and_checkpoints_and_debris_goes(run_dir: Path) -> None:
    debris, targets, checkpoints = clean_finished(run_dir)
    assert (debris.count, targets.count, checkpoints.count) == (1, 1, 1)
    assert (targets.size, checkpoints.size) == (100, 10)
    kept = {artifact.fingerprint[:2] for artifact in Ledger(run_dir).records()}
    assert kept == {"00", "02", "03"}
    assert not (run_dir / "rounds/00-guidance/targets/pass-000-shard-00000").exists()
    assert not (run_dir / "rounds/00-guidance/checkpoints").exists()
    assert (run_dir / "rounds/01-4-to-2/checkpoints/state").exists()
    assert not list(run_dir.rglob("*.tmp"))
    assert [part.count for part in clean_finished(run_dir)] == [0, 0, 0]


def test_other_directories_links_and_runs_in_progress_are_not_cleaned(
    run_dir: Path, tmp_path: Path
) -> None:
    before = snapshot(run_dir)
    (tmp_path / "precious").mkdir()
    (tmp_path / "link").symlink_to(run_dir)
    for remove in (clean_finished, clean_all):
        with lock_run_dir(run_dir), pytest.raises(BusyError):
            remove(run_dir)
        with pytest.raises(ConfigError, match="precious"):
            remove(tmp_path / "precious")
    with pytest.raises(ConfigError, match="link"):
        clean_all(tmp_path / "link")
    assert (tmp_path / "precious").exists()
    assert {name: kept for name, kept in snapshot(run_dir).items() if ".lock" not in name} == before


def test_a_dry_run_lists_and_keeps_everything(run_dir: Path) -> None:
    before = snapshot(run_dir)
    for options in ((), ("--all",)):
        code, output = invoke("clean", "--dry-run", *options, str(run_dir))
        assert (code, output.startswith("Would remove 1 x")) == (0, True)
    assert {name: kept for name, kept in snapshot(run_dir).items() if ".lock" not in name} == before


def test_all_requires_a_run_directory_and_confirmation(run_dir: Path) -> None:
    code, output = invoke("clean", "--all", "--yes")
    assert (code, "--all" in output) == (2, True)
    assert invoke("clean", "--all", "--stale", str(run_dir))[0] == 2
    assert CliRunner().invoke(app, ["clean", "--all", str(run_dir)], input="n\n").exit_code == 1
    assert run_dir.exists()
    assert CliRunner().invoke(app, ["clean", "--all", str(run_dir)], input="y\n").exit_code == 0
    assert not run_dir.exists()
