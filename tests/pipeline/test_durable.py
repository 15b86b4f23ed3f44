"""A file is complete or absent; power cuts are tested in `tests/faults`."""

from pathlib import Path

import pytest

from pipeline.durable import make_folder, replace_durably, write_durably


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    place = tmp_path / "deep" / "er" / "state.json"
    for text in ("one", "two"):
        write_durably(place, text)
        assert place.read_text() == text
    assert [file.name for file in place.parent.iterdir()] == ["state.json"]


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    place = tmp_path / "state.json"
    write_durably(place, "old")

    def write(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        replace_durably(place, write)
    assert place.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["state.json"]


def test_a_folder_may_be_there_already(tmp_path: Path) -> None:
    for _ in range(2):
        make_folder(tmp_path / "one" / "two")
    assert (tmp_path / "one" / "two").is_dir()
    assert list((tmp_path / "one").iterdir()) == [tmp_path / "one" / "two"]
