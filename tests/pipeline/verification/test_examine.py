"""An examination finds every damage and its dependents, and reports no false damage."""

import json
import os
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from pipeline.ledger import Ledger, fingerprint
from pipeline.verification.examine import Damage, Examination, examine
from tests.support.small_run import flip, make_checkpoints, recommit

GUIDANCE = "rounds/00-guidance/student"
HALVING = "rounds/01-4-to-2/student"
LAST = "rounds/02-2-to-1/student"
TARGETS = "rounds/01-4-to-2/targets/pass-000-shard-00000"
REPORTS = ("evaluation/6-samples/samples-round02-ddim-1-w2.npy", "report")


def only(found: Examination) -> Damage:
    assert len(found.damaged) == 1, found.damaged
    return found.damaged[0]


def record_of(run_dir: Path, place: str) -> Path:
    found = [a for a in Ledger(run_dir).records() if a.path == place]
    return run_dir / "ledger" / f"{found[-1].fingerprint[:32]}.json"


def edit_record(run_dir: Path, place: str, **changes: object) -> Path:
    record = record_of(run_dir, place)
    tree = json.loads(record.read_text()) | changes
    del tree["seal"]  # the old seal alone would reveal the change
    record.write_text(json.dumps(tree | {"seal": fingerprint(tree)}))
    return record


def test_an_undamaged_run_is_sound_and_nothing_is_changed(run_dir: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in run_dir.rglob("*")}
    calls: list[tuple[int, int]] = []
    found = examine(run_dir, lambda done, total: calls.append((done, total)))
    assert found.is_sound
    assert found.notes == ()
    assert (found.artifacts, calls[-1]) == (16, (16, 16))
    roots = ("data", "teacher", "rounds", "evaluation", "report")
    there = [path for root in roots for path in (run_dir / root).rglob("*") if path.is_file()]
    assert found.files == len(there)
    assert found.size == sum(path.stat().st_size for path in there)
    assert {path: path.stat().st_mtime_ns for path in run_dir.rglob("*")} == before


@pytest.mark.parametrize(
    ("place", "file", "dependents"),
    [
        ("data", "train/shard-00000.tar", 14),
        ("data", "train/shard-00001.index.json", 14),
        ("data", "dataset.json", 14),
        ("teacher", "manifest.json", 14),
        (GUIDANCE, "gaussian/tables.safetensors", 11),
        (LAST, "gaussian/config.json", 3),
        (TARGETS, "targets.tar", 0),
        ("rounds/00-guidance/promotion.json", "", 0),
        ("report", "report.json", 0),
    ],
)
@pytest.mark.parametrize("how", ["flipped", "cut", "removed"])
def test_damaged_files_are_listed_with_their_dependents(
    run_dir: Path, place: str, file: str, dependents: int, how: str
) -> None:
    path = run_dir / place / file
    if how == "flipped":
        flip(path, offset=0)
    elif how == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        path.unlink()
    damage = only(examine(run_dir))
    assert (damage.place, damage.remedy) == (place, "redo")
    assert str(Path(place) / file) in damage.problems[0]
    assert str(run_dir) not in damage.problems[0]
    assert len(damage.dependents) == dependents
    if dependents:
        assert damage.dependents[-2:] == REPORTS


def test_every_damaged_file_of_an_artifact_is_listed(run_dir: Path) -> None:
    for name in ("shard-00000.tar", "shard-00001.tar"):
        flip(run_dir / "data/train" / name)
    assert len(only(examine(run_dir)).problems) == 2


def test_another_teacher_under_the_same_name_is_found_by_its_student(run_dir: Path) -> None:
    # round 0's student with other weights and a matching record: its own files are valid
    weights = run_dir / GUIDANCE / "gaussian/tables.safetensors"
    tables = load_file(weights)
    tables["slope.weight"] += 1
    save_file(tables, weights)
    recommit(run_dir, GUIDANCE)
    damage = only(examine(run_dir))
    assert damage.place == HALVING
    assert "(rounds/00-guidance/student)" in damage.problems[0]


def test_an_older_bundle_put_back_is_found(run_dir: Path) -> None:
    shutil.copytree(run_dir / HALVING, run_dir / LAST, dirs_exist_ok=True)
    damage = only(examine(run_dir))
    assert damage.place == LAST
    assert "manifest.json" in damage.problems[0]


def test_a_shard_in_the_place_of_another_is_found(run_dir: Path) -> None:
    other = run_dir / TARGETS.replace("shard-00000", "shard-00001")
    for file in other.iterdir():
        shutil.copy(file, run_dir / TARGETS / file.name)
    assert only(examine(run_dir)).place == TARGETS


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "cannot be read"),
        ("{", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ("\x00\x01", "cannot be read"),
        ('"text"', "cannot be read"),
        ('{"kind": "data"}', "is not a record: fingerprint: Field required"),
        ('{"format_version": 99}', "is of format 99, this version reads 5"),
    ],
)
def test_an_invalid_record_is_damage_with_its_dependents(
    run_dir: Path, text: str, problem: str
) -> None:
    record = record_of(run_dir, GUIDANCE)
    record.write_text(text)
    damages = {damage.place: damage for damage in examine(run_dir).damaged}
    damage = damages[f"ledger/{record.name}"]
    assert problem in damage.problems[0]
    assert (damage.remedy, damage.kind) == ("drop record", "record")
    assert HALVING in damage.dependents
    # its children exist, but their parent has no record
    assert damages[HALVING].remedy == "make parent"


@pytest.mark.parametrize(
    "path", ["../other", "/etc", "data/../..", ".", "", "ledger/x", "recipe.yaml", "logs", "a//b"]
)
def test_a_record_of_an_invalid_path_is_damage(run_dir: Path, path: str) -> None:
    record = edit_record(run_dir, TARGETS, path=path)
    damage = only(examine(run_dir))
    assert (damage.place, damage.remedy) == (f"ledger/{record.name}", "drop record")
    assert damage.problems


def test_a_record_of_a_directory_of_other_artifacts_is_damage(run_dir: Path) -> None:
    record = edit_record(run_dir, TARGETS, path="rounds/01-4-to-2")
    damage = only(examine(run_dir))
    assert damage.place == f"ledger/{record.name}"
    assert "'rounds/01-4-to-2'" in damage.problems[0]


def test_a_record_under_another_name_is_damage(run_dir: Path) -> None:
    record = record_of(run_dir, "report")
    record.rename(record.with_name("0" * 32 + ".json"))
    damage = only(examine(run_dir))
    assert "under another name" in damage.problems[0]


def test_a_missing_parent_is_a_damage_of_its_children(run_dir: Path) -> None:
    record_of(run_dir, "teacher").unlink()
    damages = examine(run_dir).damaged
    assert {damage.remedy for damage in damages} == {"make parent"}
    assert GUIDANCE in {damage.place for damage in damages}


def test_a_file_added_to_an_artifact_is_damage(run_dir: Path) -> None:
    (run_dir / GUIDANCE / "gaussian" / "model.safetensors.index.json").write_text("{}")
    damage = only(examine(run_dir))
    assert (damage.place, damage.remedy) == (GUIDANCE, "remove file")
    assert damage.files == (f"{GUIDANCE}/gaussian/model.safetensors.index.json",)


def test_damaged_checkpoints_of_an_unfinished_round_are_found(run_dir: Path) -> None:
    folder = make_checkpoints(run_dir)
    assert examine(run_dir).is_sound
    flip(next((folder / "update-0000001").iterdir()))
    damage = only(examine(run_dir))
    assert (run_dir / damage.place, damage.kind) == (folder / "update-0000001", "checkpoint")


def test_targets_that_are_not_needed_can_be_removed(run_dir: Path) -> None:
    ledger = Ledger(run_dir)
    for artifact in ledger.records():
        if artifact.kind == "targets" and "00-guidance" in artifact.path:
            ledger.forget(artifact)
    shutil.rmtree(run_dir / TARGETS)  # by hand
    found = examine(run_dir)
    assert found.is_sound
    assert [(note.kind, note.places) for note in found.notes] == [("gone", (TARGETS,))]


def test_missing_targets_that_are_needed_are_damage(run_dir: Path) -> None:
    ledger = Ledger(run_dir)
    for artifact in ledger.records():
        if artifact.path.startswith(HALVING) or artifact.path.startswith("rounds/02"):
            ledger.forget(artifact)
    shutil.rmtree(run_dir / TARGETS)
    assert TARGETS in {damage.place for damage in examine(run_dir).damaged}


def test_debris_and_foreign_files_are_not_damage(run_dir: Path) -> None:
    for folder in (".student.ab12cd34.tmp", "checkpoints/.staging-abc", "targets/.x.1.tmp"):
        (run_dir / "rounds/02-2-to-1" / folder / "deep").mkdir(parents=True)
    (run_dir / "ledger" / ".abc.json.12345678.tmp").write_text('{"kin')
    (run_dir / "ray" / "round-1-abc").mkdir(parents=True)
    (run_dir / "thesis" / "chapter").mkdir(parents=True)
    (run_dir / "thesis" / "chapter" / "one.tex").touch()
    (run_dir / "rounds" / "notes.txt").touch()
    (run_dir / "link").symlink_to("/etc")
    (run_dir / "logs" / "ray-1").mkdir(parents=True)
    found = examine(run_dir)
    assert found.is_sound
    notes = {note.kind: note.places for note in found.notes}
    assert sorted(notes["debris"]) == [
        "ledger/.abc.json.12345678.tmp",
        "ray/round-1-abc",
        "rounds/02-2-to-1/.student.ab12cd34.tmp",
        "rounds/02-2-to-1/checkpoints/.staging-abc",
        "rounds/02-2-to-1/targets/.x.1.tmp",
    ]
    assert sorted(notes["foreign"]) == ["link", "rounds/notes.txt", "thesis"]


def test_a_superseded_record_is_not_damage(run_dir: Path) -> None:
    artifact = next(a for a in Ledger(run_dir).records() if a.path == "report")
    record = record_of(run_dir, "report")
    older = artifact.model_copy(update={"fingerprint": "ef" * 32}).sealed()
    old_record = run_dir / "ledger" / ("ef" * 16 + ".json")
    old_record.write_text(older.model_dump_json())
    os.utime(old_record, (1, 1))
    os.utime(record, (2e9, 2e9))
    found = examine(run_dir)
    assert found.is_sound
    assert [note.kind for note in found.notes] == ["superseded"]


def test_an_unreadable_file_is_damage(run_dir: Path) -> None:
    path = run_dir / "report/report.json"
    path.unlink()
    path.mkdir()
    assert only(examine(run_dir)).place == "report"


def test_an_empty_run_is_sound(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").touch()
    found = examine(tmp_path)
    assert (found.is_sound, found.artifacts) == (True, 0)
