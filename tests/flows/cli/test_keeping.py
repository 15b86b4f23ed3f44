"""`verify` and `repair` as a user meets them; what they find is in tests/pipeline/verification."""

import json
import os
import shutil
from pathlib import Path

import pytest

from pipeline.config.profile import ComputeConfig, EngineConfig, Profile, TrackingConfig
from pipeline.errors import ConfigError
from pipeline.ledger import hold
from pipeline.run_dir.recipe_file import prepare, record_profile, recorded_profile
from tests.support.small_run import flip, make_run, small_recipe
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


def test_a_sound_run_exits_0(run_dir: Path) -> None:
    code, output = invoke("verify", str(run_dir))
    assert code == 0
    assert "run: sound 16 artifacts" in output


def test_a_damaged_run_exits_1_and_names_damage_dependents_and_the_way_out(run_dir: Path) -> None:
    flip(run_dir / STUDENT / "gaussian/tables.safetensors")
    (run_dir / "rounds" / ".x.tmp").touch()
    code, output = invoke("verify", str(run_dir))
    assert code == 1
    assert "run: 1 damaged" in output
    assert "rounds/00-guidance" in output
    assert "rounds/01-4-to-2: 4" in output
    assert "1 debris" in output
    assert "stepfold repair run" in output


def test_machines_get_json(run_dir: Path) -> None:
    assert json.loads(invoke("verify", "--json", str(run_dir))[1])["damaged"] == []
    flip(run_dir / STUDENT / "manifest.json")
    code, output = invoke("verify", "--json", str(run_dir))
    (damage,) = json.loads(output)["damaged"]
    assert (code, damage["place"], damage["remedy"]) == (1, STUDENT, "redo")
    assert len(damage["dependents"]) == 11


def test_what_is_no_run_or_is_at_work_exits_2(run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for asked in ("verify", "repair"):
        code, output = invoke(asked, "empty")
        assert (code, "no run directory" in output) == (2, True)
    assert list((tmp_path / "empty").iterdir()) == []
    with hold(run_dir):
        for asked in ("verify", "repair"):
            code, output = invoke(asked, str(run_dir))
            assert (code, "is in use by process" in output) == (2, True)


def test_a_read_only_copy_is_verified_and_not_written_to(run_dir: Path) -> None:
    assert invoke("verify", str(run_dir))[0] == 0
    for path in [*run_dir.rglob("*"), run_dir]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = snapshot(run_dir)
    for above in run_dir.absolute().parents[:3]:
        above.chmod(0o755)
    is_root = os.geteuid() == 0
    try:
        os.seteuid(65534 if is_root else os.geteuid())
        code, output = invoke("verify", str(run_dir))
    finally:
        os.seteuid(0 if is_root else os.geteuid())
        for path in [run_dir, *run_dir.rglob("*")]:
            path.chmod(0o755)
    assert (code, "sound" in output) == (0, True)
    assert snapshot(run_dir) == before


def test_repairing_a_sound_run_does_nothing(run_dir: Path) -> None:
    code, output = invoke("repair", str(run_dir))
    assert (code, "run: sound" in output) == (0, True)


def test_a_dry_run_says_what_and_does_nothing(run_dir: Path) -> None:
    flip(run_dir / STUDENT / "gaussian/tables.safetensors")
    (run_dir / "report" / "macro.py").touch()
    before = snapshot(run_dir)
    code, output = invoke("repair", "--dry-run", str(run_dir))
    assert code == 1
    assert "thrown away and made" in output
    assert "these files are removed" in output
    assert {k: v for k, v in snapshot(run_dir).items() if ".lock" not in k} == before


def test_nothing_is_thrown_away_before_it_is_known_that_it_can_be_made_anew(run_dir: Path) -> None:
    flip(run_dir / "data/train/shard-00000.tar")
    (run_dir / "profile.yaml").write_text("compute: {workers: 4000}\n")
    code, output = invoke("repair", str(run_dir))
    assert code == 2
    assert "4000" in output
    assert (run_dir / "data").exists()
    (run_dir / "profile.yaml").unlink()
    code, output = invoke("repair", str(run_dir))
    assert (code, "give --profile" in output) == (2, True)
    assert (run_dir / "data").exists()


def test_every_profile_of_a_run_is_kept(tmp_path: Path) -> None:
    prepare(small_recipe(), tmp_path, accept_changes=False)
    first = Profile(tracking=TrackingConfig(uri="env:TRACKING"))
    second = Profile(
        compute=ComputeConfig(workers=1), engine=EngineConfig(log_every=3, checkpoint_every=7)
    )
    for profile in (first, first, second, second, first):
        record_profile(profile, tmp_path)
    assert recorded_profile(tmp_path).tracking.uri == "env:TRACKING"
    assert sorted(file.name for file in tmp_path.glob("profile*.yaml")) == [
        "profile.1.yaml",
        "profile.2.yaml",
        "profile.yaml",
    ]
    assert "log_every: 3" in (tmp_path / "profile.2.yaml").read_text()


def test_without_a_recorded_profile_one_has_to_be_given(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give --profile"):
        recorded_profile(tmp_path)
