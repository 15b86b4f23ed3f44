"""Removal of damaged artifacts, records and files, and of nothing else."""

import shutil
from pathlib import Path

import pytest

from pipeline.ledger import Artifact, Ledger
from pipeline.verification.examine import examine, remove_damaged
from tests.support.small_run import flip, make_checkpoints

GUIDANCE = "rounds/00-guidance/student"
TARGETS = "rounds/01-4-to-2/targets/pass-000-shard-00000"


def artifacts(run_dir: Path) -> dict[str, Artifact]:
    return {artifact.path: artifact for artifact in Ledger(run_dir).records()}


@pytest.mark.parametrize("place", ["data", GUIDANCE, TARGETS, "report"])
def test_only_the_damaged_artifact_is_removed(run_dir: Path, place: str) -> None:
    before = artifacts(run_dir)
    flip(min(file for file in (run_dir / place).rglob("*.*") if file.is_file()))
    removed = remove_damaged(run_dir, examine(run_dir).damaged)
    assert [artifact.path for artifact in removed] == [place]
    assert not (run_dir / place).exists()
    assert artifacts(run_dir) == {path: a for path, a in before.items() if path != place}
    left = {damage.remedy for damage in examine(run_dir).damaged}
    assert left <= {"make parent"}


def test_an_invalid_record_and_an_unrecorded_file_are_removed_alone(run_dir: Path) -> None:
    before = artifacts(run_dir)
    (run_dir / "ledger" / ("9" * 32 + ".json")).write_text("{")
    (run_dir / GUIDANCE / "run.py").write_text("import os")
    assert remove_damaged(run_dir, examine(run_dir).damaged) == []
    assert artifacts(run_dir) == before
    assert examine(run_dir).is_sound


def test_a_forged_record_cannot_remove_files_outside_of_the_run(
    run_dir: Path, tmp_path: Path
) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.tex").touch()
    record = next(artifact for artifact in artifacts(run_dir).values() if artifact.path == TARGETS)
    forged = record.model_copy(update={"path": "../precious", "fingerprint": "f" * 64}).sealed()
    (run_dir / "ledger" / ("f" * 32 + ".json")).write_text(forged.model_dump_json())
    remove_damaged(run_dir, examine(run_dir).damaged)
    assert (precious / "thesis.tex").exists()
    assert examine(run_dir).is_sound


def test_only_the_damaged_checkpoint_is_removed(run_dir: Path) -> None:
    folder = make_checkpoints(run_dir)
    flip(next((folder / "update-0000002").iterdir()))
    remove_damaged(run_dir, examine(run_dir).damaged)
    assert [artifact.path for artifact in Ledger(folder).records()] == ["update-0000001"]
    assert not (folder / "update-0000002").exists()
    assert examine(run_dir).is_sound


def test_of_an_artifact_that_is_a_link_only_the_link_is_removed(
    run_dir: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "elsewhere"
    shutil.move(run_dir / "report", moved)
    (run_dir / "report").symlink_to(moved)
    flip(moved / "report.json")
    remove_damaged(run_dir, examine(run_dir).damaged)
    assert not (run_dir / "report").is_symlink()
    assert (moved / "report.json").exists()
