"""Artifacts with matching hashes and invalid content, damaged before they were hashed."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.data.records import RecordShards, write_records
from pipeline.ledger import Ledger
from pipeline.verification.examine import examine
from tests.support.small_run import make_samples, recommit

HALVING = "rounds/01-4-to-2/student"
LAST = "rounds/02-2-to-1/student"
TARGETS = "rounds/01-4-to-2/targets/pass-000-shard-00000"


def nan_in_weights(run_dir: Path) -> str:
    file = run_dir / HALVING / "gaussian/tables.safetensors"
    tables = load_file(file)
    tables["slope.weight"][0, 0] = float("nan")
    save_file(tables, file)
    return HALVING


def other_teacher(run_dir: Path) -> str:
    return _edit_manifest(run_dir, "parent", "somebody else")


def other_round(run_dir: Path) -> str:
    return _edit_manifest(run_dir, "round", 7)


def _edit_manifest(run_dir: Path, key: str, value: object) -> str:
    manifest = run_dir / LAST / "manifest.json"
    tree = json.loads(manifest.read_text())
    tree["lineage"][key] = value
    manifest.write_text(json.dumps(tree))
    return LAST


def other_steps(run_dir: Path) -> str:
    manifest = run_dir / LAST / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"steps": [4]}))
    return LAST


def pickle_for_weights(run_dir: Path) -> str:
    (run_dir / LAST / "gaussian/tables.safetensors").write_bytes(b"\x80\x04" * 40)
    return LAST


def fewer_samples(run_dir: Path) -> str:
    info = run_dir / "data/dataset.json"
    tree = json.loads(info.read_text())
    split = tree["splits"]["train"]
    last = split["shards"].pop()
    split["count"] -= last["count"]
    info.write_text(json.dumps(tree))
    return "data"


def an_index_with_fewer_rows(run_dir: Path) -> str:
    index = run_dir / "data/train/shard-00000.index.json"
    tree = json.loads(index.read_text())
    index.write_text(json.dumps(tree | {"count": tree["count"] - 1}))
    return "data"


def targets_with_nan(run_dir: Path) -> str:
    tar = run_dir / TARGETS / "targets.tar"
    columns = RecordShards([tar]).read(torch.arange(20).numpy())
    columns["z_t_and_velocity"][3] = float("inf")
    write_records(tar, [columns])
    return TARGETS


def a_shorter_target_shard(run_dir: Path) -> str:
    tar = run_dir / TARGETS / "targets.tar"
    columns = RecordShards([tar]).read(torch.arange(19).numpy())
    write_records(tar, [columns])
    return TARGETS


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (nan_in_weights, "slope.weight in gaussian/tables.safetensors"),
        (other_teacher, "lineage.parent: somebody els"),
        (other_round, "lineage.round: 7"),
        (other_steps, "steps: (4,) in its manifest, 1 in its record"),
        (pickle_for_weights, "tables.safetensors"),
        (fewer_samples, "split train contains 40 rows"),
        (an_index_with_fewer_rows, "39"),
        (targets_with_nan, "column z_t_and_velocity"),
        (a_shorter_target_shard, "targets.tar contains 19 rows, its record 20"),
    ],
)
def test_invalid_content_with_matching_hashes_is_found(
    run_dir: Path, damage: Callable[[Path], str], problem: str
) -> None:
    place = damage(run_dir)
    recommit(run_dir, place)
    found = {each.place: each for each in examine(run_dir).damaged}
    assert found[place].remedy == "redo"
    assert problem in found[place].problems[0]
    assert str(run_dir) not in found[place].problems[0]


def test_samples_that_are_not_finite_are_found(run_dir: Path) -> None:
    student = next(a for a in Ledger(run_dir).records() if a.path == LAST)
    make_samples(run_dir, student, poison=float("nan"))
    (damage,) = examine(run_dir).damaged
    assert (damage.remedy, len(damage.problems)) == ("redo", 1)
    assert "NaN" in damage.problems[0]
