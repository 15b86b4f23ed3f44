"""Damage is found with its dependents, and only damage is removed; no false alarms."""

import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.data.records import RecordShards, write_records
from pipeline.ledger import Artifact, Ledger
from pipeline.verification.examine import Damage, examine, remove_damaged
from tests.support.small_run import flip, make_checkpoints, make_run, make_samples, recommit

GUIDANCE = "rounds/00-guidance/student"
HALVING = "rounds/01-4-to-2/student"
LAST = "rounds/02-2-to-1/student"
TARGETS = "rounds/01-4-to-2/targets/pass-000-shard-00000"
TABLES = "gaussian/tables.safetensors"
MANIFEST = f"{LAST}/manifest.json"
INDEX = "train/shard-00000.index.json"
PICKLE = b"\x80\x04" * 40
REPORTS = ("evaluation/6-samples/samples-round02-ddim-1-w2.npy", "report")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("made") / "run")


@pytest.fixture
def run_dir(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


def only(run_dir: Path) -> Damage:
    (damage,) = examine(run_dir).damaged
    return damage


def artifacts(run_dir: Path) -> dict[str, Artifact]:
    return {artifact.path: artifact for artifact in Ledger(run_dir).records()}


def record_of(run_dir: Path, place: str) -> Path:
    return run_dir / "ledger" / f"{artifacts(run_dir)[place].fingerprint[:32]}.json"


def forge(run_dir: Path, place: str, **changes: Any) -> Path:
    """Write a changed record with a valid seal, under the name of its fingerprint."""
    forged = artifacts(run_dir)[place].model_copy(update=changes).sealed()
    record = run_dir / "ledger" / f"{forged.fingerprint[:32]}.json"
    record.write_text(forged.model_dump_json())
    return record


def edit_json(file: Path, **changes: object) -> None:
    tree = json.loads(file.read_text())
    for key, new in changes.items():
        tree[key] = tree[key] | new if isinstance(new, dict) else new
    file.write_text(json.dumps(tree))


def edit_tables(bundle: Path, row: slice | int, value: float) -> None:
    file = bundle / TABLES
    tables = load_file(file)
    tables["slope.weight"][row] += value
    save_file(tables, file)


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


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("damage", "place", "file", "dependents"),
    [
        (flip, "data", "train/shard-00000.tar", 14),
        (cut, "data", "train/shard-00000.tar", 14),
        (Path.unlink, "data", "train/shard-00000.tar", 14),
        (cut, "data", INDEX, 14),
        (Path.unlink, "data", "dataset.json", 14),
        (flip, "teacher", "manifest.json", 14),
        (cut, GUIDANCE, TABLES, 11),
        (Path.unlink, LAST, "gaussian/config.json", 3),
        (flip, TARGETS, "targets.tar", 0),
        (Path.unlink, "rounds/00-guidance/promotion.json", "", 0),
        (flip, "report", "report.json", 0),
    ],
)
def test_damaged_files_are_listed_with_their_dependents(
    run_dir: Path, damage: Callable[[Path], None], place: str, file: str, dependents: int
) -> None:
    damage(run_dir / place / file)
    found = only(run_dir)
    assert (found.place, found.remedy) == (place, "redo")
    assert str(Path(place) / file) in found.problems[0]
    assert str(run_dir) not in found.problems[0]
    assert len(found.dependents) == dependents
    assert found.dependents[-2:] == (REPORTS if dependents else ())


def test_every_damaged_file_of_an_artifact_is_listed(run_dir: Path) -> None:
    flip(run_dir / "data" / INDEX)
    folder = run_dir / "data/dataset.json"  # nothing that can be read
    folder.unlink()
    folder.mkdir()
    found = only(run_dir)
    assert (found.place, len(found.problems)) == ("data", 2)


def test_another_teacher_under_the_same_name_is_found_by_its_student(run_dir: Path) -> None:
    # round 0's student with other weights and a matching record: its own files are valid
    edit_tables(run_dir / GUIDANCE, slice(None), 1.0)
    recommit(run_dir, GUIDANCE)
    damage = only(run_dir)
    assert damage.place == HALVING
    assert f"({GUIDANCE})" in damage.problems[0]


def test_files_of_another_artifact_are_found(run_dir: Path) -> None:
    shutil.copytree(run_dir / HALVING, run_dir / LAST, dirs_exist_ok=True)
    other = run_dir / TARGETS.replace("shard-00000", "shard-00001")
    shutil.copytree(other, run_dir / TARGETS, dirs_exist_ok=True)
    last, targets = sorted(examine(run_dir).damaged, key=lambda damage: damage.place, reverse=True)
    assert (last.place, targets.place) == (LAST, TARGETS)
    assert "manifest.json" in last.problems[0]


def spoil_targets(run_dir: Path, rows: int, value: float) -> None:
    tar = run_dir / TARGETS / "targets.tar"
    columns = RecordShards([tar]).read(torch.arange(rows).numpy())
    columns["z_t_and_velocity"][3] += value
    write_records(tar, [columns])


def drop_a_shard(info: Path) -> None:
    train = json.loads(info.read_text())["splits"]["train"]
    count = train["count"] - train["shards"].pop()["count"]
    edit_json(info, splits={"train": train | {"count": count}})


@pytest.mark.parametrize(
    ("place", "problem", "damage"),
    [
        (HALVING, f"slope.weight in {TABLES}", lambda run: edit_tables(run / HALVING, 0, math.nan)),
        (LAST, "parent: some", lambda run: edit_json(run / MANIFEST, lineage={"parent": "some"})),
        (LAST, "lineage.round: 7", lambda run: edit_json(run / MANIFEST, lineage={"round": 7})),
        (LAST, "(4,) in its manifest, 1 in", lambda run: edit_json(run / MANIFEST, steps=[4])),
        (LAST, "tables.safetensors is", lambda run: (run / LAST / TABLES).write_bytes(PICKLE)),
        ("data", "train contains 40 rows", lambda run: drop_a_shard(run / "data/dataset.json")),
        ("data", "39", lambda run: edit_json(run / f"data/{INDEX}", count=39)),
        (TARGETS, "z_t_and_velocity", lambda run: spoil_targets(run, 20, math.inf)),
        (TARGETS, "targets.tar contains 19 rows, its re", lambda run: spoil_targets(run, 19, 0.0)),
    ],
)
def test_invalid_content_with_matching_hashes_is_found(
    run_dir: Path, place: str, problem: str, damage: Callable[[Path], object]
) -> None:
    damage(run_dir)
    recommit(run_dir, place)
    found = {each.place: each for each in examine(run_dir).damaged}
    assert found[place].remedy == "redo"
    assert problem in found[place].problems[0]
    assert str(run_dir) not in found[place].problems[0]


def test_samples_that_are_not_finite_are_found(run_dir: Path) -> None:
    make_samples(run_dir, artifacts(run_dir)[LAST], poison=float("nan"))
    damage = only(run_dir)
    assert (damage.remedy, len(damage.problems)) == ("redo", 1)
    assert "NaN" in damage.problems[0]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ("\x00\x01", "cannot be read"),
        ('"text"', "cannot be read"),
        ('{"kind": "data"}', "is not a record: format_version: Field required"),
        ('{"format_version": 8}', "is not a record: kind: Field required"),
        ('{"format_version": 99}', "is of format 99, this version reads 8"),
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


INVALID_PATHS = ("../other", "/etc", "data/../..", ".", "", "ledger/x", "recipe.yaml", "logs")


@pytest.mark.parametrize("path", [*INVALID_PATHS, "a//b", "rounds/01-4-to-2"])
def test_a_record_of_an_invalid_path_is_damage(run_dir: Path, path: str) -> None:
    record = forge(run_dir, TARGETS, path=path)
    damage = only(run_dir)
    assert (damage.place, damage.remedy) == (f"ledger/{record.name}", "drop record")
    assert path in damage.problems[0]


def with_format(tree: dict[str, Any]) -> dict[str, Any]:
    return tree | {"format_version": 5}


def without_format(tree: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in tree.items() if key != "format_version"}


def with_unknown_key(tree: dict[str, Any]) -> dict[str, Any]:
    return tree | {"size": 1}


def with_unknown_file_key(tree: dict[str, Any]) -> dict[str, Any]:
    name, file = next(iter(tree["files"].items()))
    return tree | {"files": {name: file | {"mode": "rw"}}}


def unsealed(tree: dict[str, Any]) -> dict[str, Any]:
    return tree | {"seal": ""}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (with_format, "is of format 5, this version reads 8"),
        (without_format, "is not a record: format_version: Field required"),
        (with_unknown_key, "is not a record: size: Extra inputs are not permitted"),
        (with_unknown_file_key, "mode: Extra inputs are not permitted"),
        (unsealed, "has no seal, so it was changed or damaged"),
    ],
)
def test_the_ledger_and_the_examination_judge_a_record_alike(
    run_dir: Path,
    caplog: pytest.LogCaptureFixture,
    change: Callable[[dict[str, Any]], dict[str, Any]],
    problem: str,
) -> None:
    key = artifacts(run_dir)[GUIDANCE].fingerprint
    record = record_of(run_dir, GUIDANCE)
    record.write_text(json.dumps(change(json.loads(record.read_text()))))
    check_alike(run_dir, key, problem, caplog)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"files": {}}, "has no files"),
        ({"path": "ledger"}, "is reserved for the run"),
        ({"path": "logs/x"}, "is reserved for the run"),
        ({"path": "rounds/01-4-to-2"}, "contains other artifacts"),
    ],
)
def test_a_forged_place_is_no_commit_for_either(
    run_dir: Path, caplog: pytest.LogCaptureFixture, changes: dict[str, Any], problem: str
) -> None:
    key = artifacts(run_dir)[TARGETS].fingerprint
    if "path" in changes:  # its files verify, so that nothing but the place is wrong
        shutil.copytree(run_dir / TARGETS, run_dir / changes["path"], dirs_exist_ok=True)
    forge(run_dir, TARGETS, **changes)
    check_alike(run_dir, key, problem, caplog)


def check_alike(run_dir: Path, key: str, problem: str, caplog: pytest.LogCaptureFixture) -> None:
    record = Ledger(run_dir).record_path(key)
    caplog.clear()
    assert Ledger(run_dir).find(key) is None
    damages = {damage.place: damage for damage in examine(run_dir).damaged}
    [words] = damages[f"ledger/{record.name}"].problems
    assert problem in words
    assert caplog.messages == [f"ledger: ignored record={record} problem={words}"]
    assert key not in {artifact.fingerprint for artifact in Ledger(run_dir).records()}


def test_a_record_under_another_name_is_damage(run_dir: Path) -> None:
    record = record_of(run_dir, "report")
    record.rename(record.with_name("0" * 32 + ".json"))
    assert "under another name" in only(run_dir).problems[0]


def test_targets_can_be_removed_by_hand_unless_they_are_needed(run_dir: Path) -> None:
    shutil.rmtree(run_dir / TARGETS)
    found = examine(run_dir)
    assert found.is_sound
    assert [(note.kind, note.places) for note in found.notes] == [("gone", (TARGETS,))]
    for place, artifact in artifacts(run_dir).items():
        if place.startswith((HALVING, "rounds/02")):
            Ledger(run_dir).forget(artifact)
    assert TARGETS in {damage.place for damage in examine(run_dir).damaged}


def test_debris_and_foreign_files_are_not_damage(run_dir: Path) -> None:
    for folder in (".student.ab12cd34.tmp", "checkpoints/.staging-abc", "targets/.x.1.tmp"):
        (run_dir / "rounds/02-2-to-1" / folder / "deep").mkdir(parents=True)
    (run_dir / "ledger" / ".abc.json.12345678.tmp").write_text('{"kin')
    for folder in ("ray/round-1-abc", "thesis/chapter", "logs/ray-1"):
        (run_dir / folder).mkdir(parents=True)
    (run_dir / "thesis" / "chapter" / "one.tex").touch()
    (run_dir / "rounds" / "notes.txt").touch()
    (run_dir / "link").symlink_to("/etc")
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
    os.utime(record_of(run_dir, "report"), (2e9, 2e9))
    os.utime(forge(run_dir, "report", fingerprint="ef" * 32), (1, 1))
    found = examine(run_dir)
    assert found.is_sound
    assert [note.kind for note in found.notes] == ["superseded"]


def test_an_empty_run_is_sound(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").touch()
    found = examine(tmp_path)
    assert (found.is_sound, found.artifacts) == (True, 0)


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
    found = {damage.place: damage for damage in examine(run_dir).damaged}
    assert (found[GUIDANCE].remedy, found[GUIDANCE].files) == (
        *("remove file", (f"{GUIDANCE}/run.py",)),
    )
    assert remove_damaged(run_dir, examine(run_dir).damaged) == []
    assert artifacts(run_dir) == before
    assert examine(run_dir).is_sound


def test_a_forged_record_cannot_remove_files_outside_of_the_run(
    run_dir: Path, tmp_path: Path
) -> None:
    precious = tmp_path / "precious" / "thesis.tex"
    precious.parent.mkdir()
    precious.touch()
    forge(run_dir, TARGETS, path="../precious", fingerprint="f" * 64)
    remove_damaged(run_dir, examine(run_dir).damaged)
    assert precious.exists()
    assert examine(run_dir).is_sound


def test_only_the_damaged_checkpoint_of_an_unfinished_round_is_removed(run_dir: Path) -> None:
    folder = make_checkpoints(run_dir)
    assert examine(run_dir).is_sound
    flip(next((folder / "update-0000002").iterdir()))
    damage = only(run_dir)
    assert (run_dir / damage.place, damage.kind) == (folder / "update-0000002", "checkpoint")
    remove_damaged(run_dir, [damage])
    assert [artifact.path for artifact in Ledger(folder).records()] == ["update-0000001"]
    assert not (folder / "update-0000002").exists()
    assert examine(run_dir).is_sound


def test_of_an_artifact_that_is_a_link_only_the_link_is_removed(run_dir: Path) -> None:
    moved = run_dir.parent / "elsewhere"
    shutil.move(run_dir / "report", moved)
    (run_dir / "report").symlink_to(moved)
    flip(moved / "report.json")
    remove_damaged(run_dir, examine(run_dir).damaged)
    assert not (run_dir / "report").is_symlink()
    assert (moved / "report.json").exists()
