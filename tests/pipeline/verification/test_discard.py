"""What is damaged goes, and nothing else; its dependents go if it comes out differently."""

import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from pipeline.ledger import Artifact, Ledger
from pipeline.verification.discard import Thrown, forget_stale, throw_away
from pipeline.verification.examine import examine
from tests.small_run import flip, make_checkpoints, recommit

GUIDANCE = "rounds/00-guidance/student"
TARGETS = "rounds/01-4-to-2/targets/pass-000-shard-00000"


def artifacts(run_dir: Path) -> dict[str, Artifact]:
    return {artifact.path: artifact for artifact in Ledger(run_dir).records()}


@pytest.mark.parametrize("place", ["data", GUIDANCE, TARGETS, "report"])
def test_exactly_what_is_damaged_goes(run_dir: Path, place: str) -> None:
    before = artifacts(run_dir)
    flip(min(file for file in (run_dir / place).rglob("*.*") if file.is_file()))
    thrown = throw_away(run_dir, examine(run_dir).damaged)
    assert [artifact.path for artifact in thrown.artifacts] == [place]
    assert not (run_dir / place).exists()
    assert artifacts(run_dir) == {path: a for path, a in before.items() if path != place}
    left = {damage.remedy for damage in examine(run_dir).damaged}
    assert left <= {"make parent"}


def test_a_record_that_is_none_and_an_intruder_go_alone(run_dir: Path) -> None:
    before = artifacts(run_dir)
    (run_dir / "ledger" / ("9" * 32 + ".json")).write_text("{")
    (run_dir / GUIDANCE / "run.py").write_text("import os")
    assert throw_away(run_dir, examine(run_dir).damaged).artifacts == ()
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


def test_with_the_same_bytes_again_nothing_else_is_forgotten(run_dir: Path) -> None:
    content = {
        file.relative_to(run_dir / GUIDANCE): file.read_bytes()
        for file in (run_dir / GUIDANCE).rglob("*.*")
    }
    old = artifacts(run_dir)[GUIDANCE]
    flip(run_dir / GUIDANCE / "gaussian/tables.safetensors")
    thrown = throw_away(run_dir, examine(run_dir).damaged)

    def write(folder: Path) -> dict[str, object]:
        for name, data in content.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(data)
        return old.details

    Ledger(run_dir).publish(old.kind, old.fingerprint, old.path, write, old.parents)
    assert forget_stale(run_dir, thrown) == []
    assert examine(run_dir).is_sound


def test_with_other_bytes_all_that_was_made_from_it_is_forgotten(run_dir: Path) -> None:
    before = tuple(artifacts(run_dir).values())
    old = artifacts(run_dir)[GUIDANCE]
    weights = run_dir / GUIDANCE / "gaussian/tables.safetensors"
    tables = load_file(weights)
    tables["slope.weight"] += 1
    save_file(tables, weights)
    recommit(run_dir, GUIDANCE)  # as if it had been made anew, elsewhere
    stale = forget_stale(run_dir, Thrown((old,), before))
    assert len(stale) == 11
    left = artifacts(run_dir)
    assert sorted(left) == [
        "data",
        GUIDANCE,
        "rounds/00-guidance/targets/pass-000-shard-00000",
        "rounds/00-guidance/targets/pass-000-shard-00001",
        "teacher",
    ]
    assert examine(run_dir).is_sound


def test_what_a_run_made_since_stays(run_dir: Path) -> None:
    before = tuple(artifacts(run_dir).values())
    student, report = artifacts(run_dir)["rounds/02-2-to-1/student"], artifacts(run_dir)["report"]

    def write(folder: Path) -> dict[str, object]:
        (folder / "report.json").write_text('{"new": 1}')
        return {}

    # both are children of one fingerprint, whose bytes were others then
    new = Ledger(run_dir).publish("report", "ee" * 32, "report", write, (student.fingerprint,))
    other = student.model_copy(update={"files": {}})
    assert report in forget_stale(run_dir, Thrown((other,), before))
    assert Ledger(run_dir).find(report.fingerprint) is None
    assert Ledger(run_dir).find(new.fingerprint) == new
