"""Durations, grouped numbers and short paths."""

from pathlib import Path

import pytest

from pipeline.wording import format_duration, format_integer, format_path


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (59.4, "59 s"), (67, "1:07"), (7390, "2:03:10")],
)
def test_durations_are_short(seconds: float, said: str) -> None:
    assert format_duration(seconds) == said


def test_large_numbers_are_grouped() -> None:
    assert format_integer(1234567) == "1 234 567"


def test_paths_below_the_working_directory_are_relative(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert format_path(tmp_path / "runs" / "one") == "runs/one"
    assert format_path(Path("/elsewhere")) == "/elsewhere"
