"""`stepfold repair`: what it refuses, and its dry run; complete repairs are in tests/faults."""

import shutil
from pathlib import Path

import pytest

from tests.support.small_run import flip, make_run
from tests.support.terminal import invoke, snapshot

STUDENT = "rounds/00-guidance/student"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("made") / "run")


@pytest.fixture
def run_dir(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(made, tmp_path / "run")
    return Path("run")


def test_repairing_a_sound_run_does_nothing(run_dir: Path) -> None:
    code, output = invoke("repair", str(run_dir))
    assert (code, "run: sound" in output) == (0, True)


def test_a_dry_run_lists_repairs_and_changes_nothing(run_dir: Path) -> None:
    flip(run_dir / STUDENT / "gaussian/tables.safetensors")
    (run_dir / "report" / "macro.py").touch()
    before = snapshot(run_dir)
    code, output = invoke("repair", "--dry-run", str(run_dir))
    assert code == 1
    assert "compute again" in output
    assert "remove these files" in output
    assert {k: v for k, v in snapshot(run_dir).items() if ".lock" not in k} == before


def test_nothing_is_removed_that_cannot_be_computed_again(run_dir: Path) -> None:
    flip(run_dir / "data/train/shard-00000.tar")
    (run_dir / "profile.yaml").write_text("compute: {workers: 4000}\n")
    code, output = invoke("repair", str(run_dir))
    assert code == 2
    assert "4000" in output
    assert (run_dir / "data").exists()
    (run_dir / "profile.yaml").unlink()
    code, output = invoke("repair", str(run_dir))
    assert (code, "--profile" in output) == (2, True)
    assert (run_dir / "data").exists()
