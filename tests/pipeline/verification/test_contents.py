"""Artifacts whose hashes are right and whose content is wrong: damaged before they were hashed."""

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
    ("spoil", "said"),
    [
        (nan_in_weights, "slope.weight in gaussian/tables.safetensors holds NaN or infinity"),
        (other_teacher, "its manifest names teacher somebody els, the one in its record"),
        (other_round, "its manifest says round 7, which does not lie here"),
        (other_steps, "its manifest says it was made for (4,), its record for 1 step(s)"),
        (pickle_for_weights, "tables.safetensors is no safetensors file"),
        (fewer_samples, "split train holds 40 rows, its record says"),
        (an_index_with_fewer_rows, "its index has 39"),
        (targets_with_nan, "column z_t_and_velocity holds NaN or infinity"),
        (a_shorter_target_shard, "targets.tar holds 19 rows, its record says 20"),
    ],
)
def test_what_was_wrong_before_it_was_hashed_is_found(
    run_dir: Path, spoil: Callable[[Path], str], said: str
) -> None:
    place = spoil(run_dir)
    recommit(run_dir, place)
    found = {damage.place: damage for damage in examine(run_dir).damaged}
    assert found[place].remedy == "redo"
    assert said in found[place].problems[0]
    assert str(run_dir) not in found[place].problems[0]


def test_samples_that_are_not_finite_are_found(run_dir: Path) -> None:
    student = next(a for a in Ledger(run_dir).records() if a.path == LAST)
    make_samples(run_dir, student, poison=float("nan"))
    (damage,) = examine(run_dir).damaged
    assert damage.problems == ("it holds NaN or infinity",)
