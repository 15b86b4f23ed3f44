"""`stepfold verify`: exit codes and output; findings are tested in tests/pipeline/verification."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.ledger import lock_run_dir
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


def test_a_sound_run_exits_0(run_dir: Path) -> None:
    code, output = invoke("verify", str(run_dir))
    assert code == 0
    assert "run: sound 16 artifacts" in output


def test_a_damaged_run_exits_1_and_names_damage_dependents_and_the_remedy(run_dir: Path) -> None:
    flip(run_dir / STUDENT / "gaussian/tables.safetensors")
    (run_dir / "rounds" / ".x.tmp").touch()
    code, output = invoke("verify", str(run_dir))
    assert code == 1
    assert "run: 1 damaged" in output
    assert "rounds/00-guidance" in output
    assert "rounds/01-4-to-2: 4" in output
    assert "1 debris" in output
    assert "stepfold repair run" in output


def test_json_is_printed(run_dir: Path) -> None:
    assert json.loads(invoke("verify", "--json", str(run_dir))[1])["damaged"] == []
    flip(run_dir / STUDENT / "manifest.json")
    code, output = invoke("verify", "--json", str(run_dir))
    (damage,) = json.loads(output)["damaged"]
    assert (code, damage["place"], damage["remedy"]) == (1, STUDENT, "redo")
    assert len(damage["dependents"]) == 11


@pytest.mark.parametrize("command", ["verify", "repair"])
def test_another_directory_and_a_run_in_progress_exit_2(
    command: str, run_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    code, output = invoke(command, "empty")
    assert (code, "empty" in output) == (2, True)
    assert list((tmp_path / "empty").iterdir()) == []
    with lock_run_dir(run_dir):
        code, output = invoke(command, str(run_dir))
        assert (code, str(os.getpid()) in output) == (2, True)


@pytest.fixture
def readable_copy(made: Path) -> Iterator[Path]:
    """A copy of the run where other users can reach it; pytest's own directories are private."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        yield Path(shutil.copytree(made, Path(place) / "run"))


def test_a_read_only_copy_is_verified_without_writing(readable_copy: Path) -> None:
    run_dir = readable_copy
    assert invoke("verify", str(run_dir))[0] == 0
    for path in [*run_dir.rglob("*"), run_dir]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = snapshot(run_dir)
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
