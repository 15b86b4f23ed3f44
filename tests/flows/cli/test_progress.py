"""The terminal of a run: progress, failures, and a log file for what libraries print."""

import io
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from flows.cli.console import exclusive_terminal, failure, open_console
from flows.cli.progress import numbers, show_progress
from pipeline.run_dir.events import Events
from pipeline.run_dir.monitor import StageProgress, TrainingProgress
from tests.support.small_run import small_recipe
from tests.support.terminal import command, environment


def run_through(run_dir: Path, *, terminal: bool = False) -> str:
    events, file = Events(run_dir), io.StringIO()
    console = open_console(file=file, width=80, force_terminal=terminal, color_system=None)
    with show_progress(run_dir, small_recipe(), console):
        events.emit("stage_done", stage="data", title="shard the data", cached=True)
        events.emit("data_note", stage="data", title="shard the data", message="2 images ...")
        events.emit("stage_started", stage="teacher", title="teacher")
        time.sleep(0.6)
        events.emit("stage_done", stage="teacher", title="teacher", seconds=61.0)
    return file.getvalue()


def test_without_a_terminal_progress_is_plain_lines_with_the_time(tmp_path: Path) -> None:
    lines = run_through(tmp_path).splitlines()
    assert [line[10:] for line in lines] == [
        "shard the data: already done",
        "shard the data: 2 images ...",
        "teacher: started",
        "teacher: done in 1:01",
    ]
    assert all(time.strptime(line[:8], "%H:%M:%S") for line in lines)


def test_on_a_terminal_finished_stages_stay_above_the_moving_lines(tmp_path: Path) -> None:
    shown_text = run_through(tmp_path, terminal=True)
    assert "· shard the data  already done" in shown_text
    assert "✓ teacher  1:01" in shown_text
    assert "shard the data: 2 images ..." in shown_text
    assert "whole run" in shown_text
    assert "0 of 1 800 updates" in shown_text


def test_a_stage_that_trains_shows_loss_rate_and_time_left() -> None:
    training = TrainingProgress(update=1200, total=2400, loss=0.01234, rate=20.0)
    stage = StageProgress("train", "train", since=0.0, training=training)
    assert numbers(stage) == "1 200 of 2 400 updates, loss 0.01234, 20/s, 1:00 left"


def test_a_worker_that_the_others_wait_for_is_named() -> None:
    training = TrainingProgress(1200, 2400, loss=0.01234, rate=20.0, slowest=3, slowest_ratio=2.41)
    output = numbers(StageProgress("train", "train", since=0.0, training=training))
    assert output.endswith("1:00 left; worker 3 takes 2.4 times as long as the others")
    usual = replace(training, slowest_ratio=1.2)
    assert "worker" not in numbers(StageProgress("train", "train", since=0.0, training=usual))


def test_a_failure_names_the_stage_the_log_and_the_command_to_continue(tmp_path: Path) -> None:
    text = failure("round 1, distil", "a worker died", tmp_path / "run.log", "stepfold run x.yaml")
    assert text.plain.splitlines() == [
        "Failed   round 1, distil: a worker died",
        f"Log      {tmp_path / 'run.log'}",
        "Continue stepfold run x.yaml",
    ]


def test_the_output_of_libraries_goes_to_the_log_and_ours_to_the_terminal(
    tmp_path: Path,
) -> None:
    code = (
        "import logging, os, sys, subprocess, pathlib\n"
        "from flows.cli.console import exclusive_terminal\n"
        "with exclusive_terminal(pathlib.Path('logs/run.log')) as console:\n"
        "    print('noise of python'); os.write(2, b'noise of C\\n')\n"
        "    log = logging.getLogger('stages.gate.judge')\n"
        "    log.info('verdict %s', 'in'); log.debug('no'); log.warning('careful')\n"
        "    subprocess.run(['echo', 'noise of a child'])\n"
        "    console.print('for people')\n"
        "log.info('no'); print('afterwards')"
    )
    done = subprocess.run(
        [command()[0], "-c", code],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "for people\nafterwards\n"
    assert done.stderr == ""
    lines = (tmp_path / "logs" / "run.log").read_text().splitlines()
    ours = [line.split(" | ", 1)[1] for line in lines if " | " in line]
    assert ours == [
        "INFO    | stages.gate.judge - verdict in",
        "WARNING | stages.gate.judge - careful",
    ]
    others = {line for line in lines if " | " not in line}
    assert others == {"noise of python", "noise of C", "noise of a child"}


def test_descriptors_are_restored_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), exclusive_terminal(tmp_path / "run.log"):
        raise ZeroDivisionError
    assert sys.stdout.writable()
