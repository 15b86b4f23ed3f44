"""Stage times accumulate over runs, and survive a new report directory."""

import json
import shutil
from pathlib import Path

import pytest

from pipeline.run_dir.events import Timing


def test_a_stage_that_runs_again_adds_its_time(tmp_path: Path) -> None:
    for _ in range(2):
        with Timing(tmp_path).measure("rounds/00/train", "round 0, train"):
            pass
    with Timing(tmp_path).measure("evaluate", "evaluate"):
        pass
    content = json.loads((tmp_path / "timing.json").read_text())
    assert [stage["stage"] for stage in content["stages"]] == ["rounds/00/train", "evaluate"]
    assert [stage["title"] for stage in content["stages"]] == ["round 0, train", "evaluate"]
    total = sum(stage["seconds"] for stage in content["stages"])
    assert content["total_seconds"] == pytest.approx(total, abs=0.02)  # each is rounded to 0.01


def test_a_stage_that_fails_counts_too(tmp_path: Path) -> None:
    measured = Timing(tmp_path).measure("rounds/00/train", "round 0, train")
    with pytest.raises(ValueError, match="broken"), measured:
        raise ValueError("broken")
    assert "rounds/00/train" in Timing(tmp_path).seconds()
    assert "round 0, train" in Timing(tmp_path).by_title()


def test_the_report_directory_gets_a_copy(tmp_path: Path) -> None:
    report = tmp_path / "report"
    report.mkdir()
    with Timing(tmp_path).measure("teacher", "teacher"):
        pass
    shutil.rmtree(report)
    report.mkdir()
    with Timing(tmp_path).measure("evaluate", "evaluate"):
        pass
    content = json.loads((report / "timing.json").read_text())
    assert [stage["stage"] for stage in content["stages"]] == ["teacher", "evaluate"]
