"""The metrics file survives a kill and is truncated to the start of a resumed round."""

from pathlib import Path

import pytest

from pipeline.tracking import JsonlTracker, read_metrics


def test_lines_come_back_in_order(tmp_path: Path) -> None:
    tracker = JsonlTracker(tmp_path / "deep" / "metrics.jsonl", samples_seen=0)
    tracker.log({"train/loss": 0.5}, samples_seen=128)
    tracker.log({"train/loss": 0.25, "train/lr": 1e-3}, samples_seen=256)
    assert list(read_metrics(tmp_path / "deep" / "metrics.jsonl")) == [
        {"samples_seen": 128, "train/loss": 0.5},
        {"samples_seen": 256, "train/loss": 0.25, "train/lr": 0.001},
    ]


@pytest.mark.parametrize(("resumed_at", "kept"), [(0, []), (200, [128]), (256, [128, 256])])
def test_resuming_drops_what_will_be_written_again(
    tmp_path: Path, resumed_at: int, kept: list[int]
) -> None:
    path = tmp_path / "metrics.jsonl"
    tracker = JsonlTracker(path, samples_seen=0)
    for samples_seen in (128, 256, 384):
        tracker.log({"train/loss": 1.0}, samples_seen)
    JsonlTracker(path, samples_seen=resumed_at).log({"train/loss": 2.0}, samples_seen=1000)
    assert [line["samples_seen"] for line in read_metrics(path)] == [*kept, 1000]
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_line_still_being_written_is_left_out_and_then_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    JsonlTracker(path, samples_seen=0).log({"train/loss": 1.0}, samples_seen=128)
    with path.open("a") as file:
        file.write('{"samples_seen": 256, "train/lo')
    assert [line["samples_seen"] for line in read_metrics(path)] == [128]
    JsonlTracker(path, samples_seen=256).log({"train/loss": 2.0}, samples_seen=300)
    assert [line["samples_seen"] for line in read_metrics(path)] == [128, 300]


def test_a_file_that_is_not_there_has_no_lines(tmp_path: Path) -> None:
    assert list(read_metrics(tmp_path / "metrics.jsonl")) == []
