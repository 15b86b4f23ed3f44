"""Stage times add up over attempts, and outlive the report's directory being replaced."""

import json
import shutil
from pathlib import Path

import pytest

from pipeline.run_dir.events import Timing


def test_a_stage_that_runs_again_adds_its_time(tmp_path: Path) -> None:
    for _ in range(2):
        with Timing(tmp_path).measure("distil"):
            pass
    with Timing(tmp_path).measure("evaluate"):
        pass
    content = json.loads((tmp_path / "timing.json").read_text())
    assert [stage["label"] for stage in content["stages"]] == ["distil", "evaluate"]
    total = sum(stage["seconds"] for stage in content["stages"])
    assert content["total_seconds"] == pytest.approx(total, abs=0.02)  # each is rounded to 0.01


def test_a_stage_that_fails_counts_too(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="broken"), Timing(tmp_path).measure("distil"):
        raise ValueError("broken")
    assert "distil" in Timing(tmp_path).stages()


def test_the_report_gets_a_copy_once_it_is_there(tmp_path: Path) -> None:
    report = tmp_path / "report"
    report.mkdir()
    with Timing(tmp_path).measure("teacher"):
        pass
    shutil.rmtree(report)
    report.mkdir()
    with Timing(tmp_path).measure("evaluate"):
        pass
    content = json.loads((report / "timing.json").read_text())
    assert [stage["label"] for stage in content["stages"]] == ["teacher", "evaluate"]
