"""`stepfold verify` and `stepfold repair`: exit codes, output, dry runs and refusals."""

import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from pipeline.ledger import lock_run_dir
from tests.support.small_run import flip
from tests.support.terminal import invoke, snapshot

STUDENT = "rounds/00-guidance/student"


def test_a_sound_run_exits_0(run_dir: Path) -> None:
    code, output = invoke("verify", str(run_dir))
    assert (code, "runs/run: intact 16 artifacts" in output) == (0, True)
    code, output = invoke("repair", str(run_dir))
    assert (code, "runs/run: intact" in output) == (0, True)


def test_a_damaged_run_exits_1_and_names_damage_dependents_and_the_remedy(run_dir: Path) -> None:
    flip(run_dir / STUDENT / "gaussian/tables.safetensors")
    (run_dir / "rounds" / ".x.tmp").touch()
    code, output = invoke("verify", str(run_dir))
    assert code == 1
    assert "runs/run: 1 damaged" in output
    assert "rounds/00-guidance" in output
    assert "rounds/01-4-to-2: 4" in output
    assert "1 debris" in output
    assert "stepfold repair runs/run" in output


def test_json_is_printed(run_dir: Path) -> None:
    assert json.loads(invoke("verify", "--json", str(run_dir))[1])["damaged"] == []
    flip(run_dir / STUDENT / "manifest.json")
    code, output = invoke("verify", "--json", str(run_dir))
    (damage,) = json.loads(output)["damaged"]
    assert (code, damage["place"], damage["remedy"]) == (1, STUDENT, "redo")
    assert len(damage["dependents"]) == 11


@pytest.mark.parametrize("command", ["verify", "repair"])
def test_another_directory_and_a_run_in_progress_exit_2(command: str, run_dir: Path) -> None:
    Path("empty").mkdir()
    code, output = invoke(command, "empty")
    assert (code, "empty" in output) == (2, True)
    assert list(Path("empty").iterdir()) == []
    with lock_run_dir(run_dir):
        code, output = invoke(command, str(run_dir))
        assert (code, str(os.getpid()) in output) == (2, True)


def test_a_read_only_copy_is_verified_without_writing(made_run: Path) -> None:
    is_root = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as place:  # which, unlike pytest's, others may reach
        Path(place).chmod(0o755)
        run_dir = Path(shutil.copytree(made_run, Path(place) / "run"))
        assert invoke("verify", str(run_dir))[0] == 0
        for path in [*run_dir.rglob("*"), run_dir]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        before = snapshot(run_dir)
        try:
            os.seteuid(65534 if is_root else os.geteuid())
            code, output = invoke("verify", str(run_dir))
        finally:
            os.seteuid(0 if is_root else os.geteuid())
            for path in [run_dir, *run_dir.rglob("*")]:
                path.chmod(0o755)
        assert (code, "intact" in output) == (0, True)
        assert snapshot(run_dir) == before


def test_a_dry_run_of_a_repair_lists_and_changes_nothing(run_dir: Path) -> None:
    flip(run_dir / STUDENT / "gaussian/tables.safetensors")
    (run_dir / "report" / "macro.py").touch()
    before = snapshot(run_dir)
    code, output = invoke("repair", "--dry-run", str(run_dir))
    assert code == 1
    assert "recompute" in output
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
