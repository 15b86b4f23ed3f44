"""What people see: progress, the end of a run, the doctor's findings, on a page of fixed width."""

import io
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from flows.cli.console import failure, open_console, own_terminal
from flows.cli.doctor import examine
from flows.cli.progress import numbers, shown
from flows.cli.run import show_summary
from pipeline.config import Recipe
from pipeline.documents import build, read_yaml
from pipeline.run_dir.events import Events
from pipeline.run_dir.monitor import Stage, Training
from pipeline.wording import duration, grouped, near
from tests.support.terminal import GAUSSIAN, command, environment


def page(*, terminal: bool = False) -> Console:
    return open_console(file=io.StringIO(), width=80, force_terminal=terminal, color_system=None)


def student_cell(w: float) -> dict[str, Any]:
    steps = {"role": "student", "round": 2, "sampler": "ddim", "steps": 1, "w": w}
    return {**steps, "bundle": "rounds/02-2-to-1/student", "digest": "5" * 64, "seed": 1}


def text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def recipe() -> Recipe:
    return build(Recipe, read_yaml(GAUSSIAN), "gaussian.yaml")


def run_through(run_dir: Path, console: Console) -> str:
    events = Events(run_dir)
    with shown(run_dir, recipe(), console):
        events.emit("stage_done", label="shard the data", cached=True)
        events.emit("stage_started", label="teacher")
        time.sleep(0.6)
        events.emit("stage_done", label="teacher", seconds=61.0)
    return text(console)


def test_without_a_terminal_progress_is_plain_lines_with_the_time(tmp_path: Path) -> None:
    lines = run_through(tmp_path, page()).splitlines()
    assert [line[10:] for line in lines] == [
        "shard the data: already done",
        "teacher: started",
        "teacher: done in 1:01",
    ]
    assert all(time.strptime(line[:8], "%H:%M:%S") for line in lines)


def test_on_a_terminal_finished_stages_stay_above_the_moving_lines(tmp_path: Path) -> None:
    shown_text = run_through(tmp_path, page(terminal=True))
    assert "· shard the data  already done" in shown_text
    assert "✓ teacher  1:01" in shown_text
    assert "whole chain" in shown_text
    assert "0 of 1 800 updates" in shown_text


def test_a_stage_that_trains_shows_loss_rate_and_time_left() -> None:
    training = Training(update=1200, total=2400, loss=0.01234, rate=20.0)
    stage = Stage(label="distil", since=0.0, training=training)
    assert numbers(stage) == "1 200 of 2 400 updates, loss 0.01234, 20/s, 1:00 left"


def test_a_worker_that_the_others_wait_for_is_named() -> None:
    training = Training(1200, 2400, loss=0.01234, rate=20.0, slowest=3, slowest_ratio=2.41)
    said = numbers(Stage(label="distil", since=0.0, training=training))
    assert said.endswith("1:00 left; worker 3 takes 2.4 times as long as the others")
    usual = replace(training, slowest_ratio=1.2)
    assert "worker" not in numbers(Stage(label="distil", since=0.0, training=usual))


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (59.4, "59 s"), (67, "1:07"), (7390, "2:03:10")],
)
def test_durations_read_as_people_say_them(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_large_numbers_are_grouped() -> None:
    assert grouped(1234567) == "1 234 567"


def test_a_failure_says_what_where_the_log_and_how_to_continue(tmp_path: Path) -> None:
    said = failure("round 1, distil", "a worker died", tmp_path / "run.log", "stepfold run x.yaml")
    assert said.plain.splitlines() == [
        "Failed   round 1, distil: a worker died",
        f"Log      {tmp_path / 'run.log'}",
        "Continue stepfold run x.yaml",
    ]


def test_paths_below_here_are_said_short(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert near(tmp_path / "runs" / "one") == "runs/one"
    assert near(Path("/elsewhere")) == "/elsewhere"


def test_what_libraries_print_goes_to_the_log_and_our_words_to_the_terminal(
    tmp_path: Path,
) -> None:
    code = (
        "import logging, os, sys, subprocess, pathlib\n"
        "from flows.cli.console import own_terminal\n"
        "with own_terminal(pathlib.Path('logs/run.log')) as console:\n"
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


def test_descriptors_are_given_back_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), own_terminal(tmp_path / "run.log"):
        raise ZeroDivisionError
    assert sys.stdout.writable()


def test_the_end_of_a_run_shows_result_times_and_places(tmp_path: Path) -> None:
    report = tmp_path / "report"
    report.mkdir()
    cell = student_cell(w=2.0)
    scores = {"distance_to_real": 3.9312, "class_accuracy": 1.0, "rms_to_teacher": None}
    rows = [{"cell": cell, "evaluations": 1, "scores": scores}]
    (report / "report.json").write_text(json.dumps({"rows": rows}))
    stages = [{"label": "teacher", "seconds": 62.0}, {"label": "promote", "seconds": 0.2}]
    (report / "timing.json").write_text(json.dumps({"stages": stages, "total_seconds": 62.2}))
    (report / "report.md").write_text("")
    console = page()
    show_summary(console, tmp_path, {"History": "stepfold ui"})
    said = text(console)
    assert "student, 1 step" in said
    assert "3.93" in said
    assert "not FID" in said
    assert "teacher" in said
    assert "1:02" in said
    assert f"Report    {report / 'report.md'}" in said.splitlines()
    assert "History   stepfold ui" in said.splitlines()
    tables = said.partition("Report ")[0]
    assert max(len(line) for line in tables.splitlines()) <= 80


def test_the_end_of_a_run_names_students_that_are_not_faithful(tmp_path: Path) -> None:
    def verdict(judged: str, recall: float) -> dict[str, Any]:
        checks = [
            {"name": "recall", "value": recall, "least": 0.9, "most": None},
            {"name": "RMS", "value": 0.1, "least": None, "most": 0.15},
        ]
        told = {"judged": judged, "title": "student, 1 step", "w": 4.0, "floor_factor": None}
        return {**told, "checks": checks}

    verdicts = [verdict("student", 0.8), verdict("student", 0.95), verdict("class means", 0.0)]
    cell = student_cell(w=4.0)
    rows = [{"cell": cell, "evaluations": 1, "scores": {"distance_to_real": 3.9}}]
    folder = tmp_path / "report-60"
    folder.mkdir()

    def end(verdicts: list[dict[str, Any]]) -> str:
        (folder / "report.json").write_text(json.dumps({"rows": rows, "verdicts": verdicts}))
        console = page()
        show_summary(console, tmp_path, {}, "report-60")
        return " ".join(text(console).split())

    said = end(verdicts)
    assert "1 of 2 students' rows pass every check; 1 of 1 bad controls caught" in said
    assert "w = 4, student, 1 step: recall 0.8" in said
    assert "RMS 0.1" not in said
    void = end([*verdicts, verdict("class means", 0.95)])
    assert "Nothing is judged here" in void
    assert "pass every check" not in void


def test_without_classes_no_distance_is_spoken_of_and_other_noise_is_called_so(
    tmp_path: Path,
) -> None:
    rows = [
        {"cell": {**student_cell(w=4.0), "role": role}, "scores": {"rms_to_teacher": rms}}
        for role, rms in (("yardstick", 0.61), ("student", 0.12))
    ]
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "report.json").write_text(json.dumps({"rows": rows}))
    console = page()
    show_summary(console, tmp_path, {})
    said = text(console)
    assert "other noise" in next(line for line in said.splitlines() if "0.61" in line)
    assert "other noise" not in next(line for line in said.splitlines() if "0.12" in line)
    assert "Frechet" not in said
    assert "RMS: to the teacher's sample of the same noise" in " ".join(said.split())


def test_a_report_that_cannot_be_read_spoils_nothing(tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "report.json").write_text("{")
    console = page()
    show_summary(console, tmp_path, {})
    assert text(console).split() == ["Numbers", str(tmp_path / "report" / "report.json")]


def test_the_doctor_looks_at_everything_a_run_depends_on(tmp_path: Path) -> None:
    findings = {finding.topic: finding for finding in examine(tmp_path, {"a page": 0})}
    assert set(findings) >= {
        *("python", "packages", "cores", "memory", "disk", "/dev/shm"),
        *("a page", "torch", "gpu", "prefect"),
    }
    assert "build" in findings["torch"].text
    assert findings["prefect"].verdict == "good"
    assert findings["python"].verdict == "good"
