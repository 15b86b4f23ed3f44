"""What is damaged goes, and nothing else; its dependents go if it comes out differently."""

import shutil
from pathlib import Path

import pytest

from pipeline.ledger import Artifact, Ledger
from pipeline.verification.examine import examine, throw_away
from tests.support.small_run import flip, make_checkpoints

GUIDANCE = "rounds/00-guidance/student"
TARGETS = "rounds/01-4-to-2/targets/pass-000-shard-00000"


def artifacts(run_dir: Path) -> dict[str, Artifact]:
    return {artifact.path: artifact for artifact in Ledger(run_dir).records()}


@pytest.mark.parametrize("place", ["data", GUIDANCE, TARGETS, "report"])
def test_exactly_what_is_damaged_goes(run_dir: Path, place: str) -> None:
    before = artifacts(run_dir)
    flip(min(file for file in (run_dir / place).rglob("*.*") if file.is_file()))
    thrown = throw_away(run_dir, examine(run_dir).damaged)
    assert [artifact.path for artifact in thrown] == [place]
    assert not (run_dir / place).exists()
    assert artifacts(run_dir) == {path: a for path, a in before.items() if path != place}
    left = {damage.remedy for damage in examine(run_dir).damaged}
    assert left <= {"make parent"}


def test_a_record_that_is_none_and_an_intruder_go_alone(run_dir: Path) -> None:
    before = artifacts(run_dir)
    (run_dir / "ledger" / ("9" * 32 + ".json")).write_text("{")
    (run_dir / GUIDANCE / "run.py").write_text("import os")
    assert throw_away(run_dir, examine(run_dir).damaged) == []
    assert artifacts(run_dir) == before
    assert examine(run_dir).is_sound


def test_a_forged_record_cannot_have_anything_outside_removed(
    run_dir: Path, tmp_path: Path
) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.tex").touch()
    record = next(artifact for artifact in artifacts(run_dir).values() if artifact.path == TARGETS)
    forged = record.model_copy(update={"path": "../precious", "fingerprint": "f" * 64}).sealed()
    (run_dir / "ledger" / ("f" * 32 + ".json")).write_text(forged.model_dump_json())
    throw_away(run_dir, examine(run_dir).damaged)
    assert (precious / "thesis.tex").exists()
    assert examine(run_dir).is_sound


def test_a_damaged_checkpoint_goes_and_the_others_stay(run_dir: Path) -> None:
    folder = make_checkpoints(run_dir)
    flip(next((folder / "update-0000002").iterdir()))
    throw_away(run_dir, examine(run_dir).damaged)
    assert [artifact.path for artifact in Ledger(folder).records()] == ["update-0000001"]
    assert not (folder / "update-0000002").exists()
    assert examine(run_dir).is_sound


def test_an_artifact_that_is_a_link_loses_the_link_and_not_what_it_points_to(
    run_dir: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "elsewhere"
    shutil.move(run_dir / "report", moved)
    (run_dir / "report").symlink_to(moved)
    flip(moved / "report.json")
    throw_away(run_dir, examine(run_dir).damaged)
    assert not (run_dir / "report").is_symlink()
    assert (moved / "report.json").exists()
