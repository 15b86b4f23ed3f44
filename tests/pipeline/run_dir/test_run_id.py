"""A run keeps its id when its directory is moved, and a copy is another run."""

import shutil
from pathlib import Path

import pytest

from pipeline.run_dir.run_id import claim_id, recorded_id
from pipeline.run_files import RUN_ID


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    return folder


def read(run_dir: Path) -> str | None:
    found = recorded_id(run_dir)
    return found.id if found else None


def test_an_id_is_made_once(run_dir: Path, tmp_path: Path) -> None:
    assert read(run_dir) is None
    first = claim_id(run_dir)
    before = (run_dir / RUN_ID).stat()
    assert claim_id(run_dir) == read(run_dir) == first
    assert (run_dir / RUN_ID).stat() == before
    (tmp_path / "other").mkdir()
    assert claim_id(tmp_path / "other") != first


def test_a_moved_run_keeps_its_id(run_dir: Path, tmp_path: Path) -> None:
    first = claim_id(run_dir)
    moved = run_dir.rename(tmp_path / "renamed")
    assert read(moved) == first  # before its next start
    assert claim_id(moved) == first
    found = recorded_id(moved)
    assert found
    assert found.path == str(moved)
    # another run at the old path is no original
    run_dir.mkdir()
    assert claim_id(run_dir) != first
    assert claim_id(moved) == first


def test_a_run_reached_by_another_path_is_no_copy(run_dir: Path, tmp_path: Path) -> None:
    first = claim_id(run_dir)
    (tmp_path / "link").symlink_to(tmp_path)
    assert claim_id(tmp_path / "link" / "run") == first


def test_a_copy_gets_its_own_id_and_the_original_keeps_its(
    run_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = claim_id(run_dir)
    copied = Path(shutil.copytree(run_dir, tmp_path / "copied"))
    assert read(copied) is None  # no history, so that nobody ends the runs of the original
    assert caplog.messages == []
    second = claim_id(copied)
    assert second != first
    assert f"is a copy of {run_dir}" in caplog.messages[0]
    assert (claim_id(run_dir), claim_id(copied)) == (first, second)
    assert len(caplog.messages) == 1


def test_a_restored_run_keeps_its_id(run_dir: Path, tmp_path: Path) -> None:
    first = claim_id(run_dir)
    backup = shutil.copytree(run_dir, tmp_path / "backup")
    shutil.rmtree(run_dir)
    shutil.copytree(backup, run_dir)
    assert claim_id(run_dir) == first


@pytest.mark.parametrize("text", ["", "{", '{"id": 1}'])
def test_an_unreadable_id_is_made_again(run_dir: Path, text: str) -> None:
    first = claim_id(run_dir)
    (run_dir / RUN_ID).write_text(text)
    assert read(run_dir) is None
    assert claim_id(run_dir) not in (first, None)
