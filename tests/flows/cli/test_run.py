"""`stepfold run`: refusals, the summary, and the messages of interrupted and failed runs."""

import io
import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from flows.cli.console import open_console
from flows.cli.run import show_summary
from pipeline.evaluation.documents import (
    Agreement,
    AgreementProtocol,
    AgreementReport,
    AgreementRow,
    write_json,
)
from pipeline.evaluation.verdicts.checks import Verdict
from pipeline.ledger import Ledger
from tests.pipeline.page.test_summary import cell, verdict
from tests.pipeline.page.test_summary import report as report_of
from tests.support.chain import SMALLEST
from tests.support.prefect_home import new_home
from tests.support.terminal import GAUSSIAN, ROOT, RUN, command, environment, invoke


def test_every_error_of_a_recipe_is_reported_at_once(workplace: Path) -> None:
    code, output = invoke(
        *RUN, str(GAUSSIAN), "--set", "guidance.updates=0", "--set", "run.name=a b"
    )
    assert code == 2
    assert "guidance.updates" in output
    assert "run.name" in output


def test_a_directory_in_use_is_refused_with_the_process_that_holds_it(workplace: Path) -> None:
    holding = (
        "import sys, pathlib; from pipeline.ledger import lock_run_dir\n"
        "with lock_run_dir(pathlib.Path('out')): print('held', flush=True); sys.stdin.read()"
    )
    Path("out").mkdir()
    with subprocess.Popen(
        [command()[0], "-c", holding],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        code, output = invoke(*RUN, str(GAUSSIAN))
        assert holder.stdin is not None
        holder.stdin.close()
    assert code == 2
    assert str(holder.pid) in output
    assert not Path("out/recipe.yaml").exists()


def page() -> Console:
    return open_console(file=io.StringIO(), width=80, color_system=None)


def text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_summary_lists_results_durations_and_places(tmp_path: Path) -> None:
    report = tmp_path / "report"
    report.mkdir()
    write_json(report_of(), report)
    stages = [
        {"stage": "teacher", "title": "teacher", "seconds": 62.0},
        {"stage": "publish", "title": "publish the report", "seconds": 0.2},
    ]
    (report / "timing.json").write_text(json.dumps({"stages": stages, "total_seconds": 62.2}))
    (report / "report.md").write_text("")
    console = page()
    show_summary(console, tmp_path, {"History": "stepfold ui"})
    output = text(console)
    numbers = next(line for line in output.splitlines() if line.startswith("student, 1 step"))
    assert numbers.split()[3:] == ["1", "3", "1.55", "1", "0.1"]
    assert "not FID" in output
    assert "teacher" in output
    assert "1:02" in output
    assert f"Report    {report / 'report.md'}" in output.splitlines()
    assert "History   stepfold ui" in output.splitlines()
    tables = output.partition("Report ")[0]
    assert max(len(line) for line in tables.splitlines()) <= 80


def test_the_summary_names_students_that_fail_a_check(tmp_path: Path) -> None:
    students = [verdict(4, 3.0, 0.8), verdict(1, 3.0, 0.95)]
    folder = tmp_path / "report-60"
    folder.mkdir()

    def end(*verdicts: Verdict) -> str:
        write_json(report_of(*verdicts), folder)
        console = page()
        show_summary(console, tmp_path, {}, "report-60")
        return " ".join(text(console).split())

    output = end(*students, verdict(1, 3.0, 0.0, "class means"))
    assert "Every check passes for: student, 1 step (w = 3)." in output
    assert "reject 1 of 1 negative control" in output
    assert "w = 3, student, 4 steps: recall 0.8" in output
    assert "RMS 0.1" not in output
    void = end(*students, verdict(1, 3.0, 0.95, "class means"))
    assert "Verdicts are void" in void
    assert "Every check passes" not in void


def test_without_classes_no_distance_is_explained_and_other_noise_is_named(
    tmp_path: Path,
) -> None:
    rows = []
    for role, rms in (("noise_floor", 0.61), ("student", 0.12)):
        scores = Agreement(rms_to_teacher=rms, rms_to_teacher_interval=(rms, rms))
        rows.append(AgreementRow(cell=cell(role, 4, 4.0), evaluations=4, scores=scores))
    protocol = AgreementProtocol(num_samples=4, seed=1, noise_floor_seed=2, reference_steps=8)
    (tmp_path / "report").mkdir()
    write_json(
        AgreementReport(run="r", protocol=protocol, rows=tuple(rows), pictures=()),
        tmp_path / "report",
    )
    console = page()
    show_summary(console, tmp_path, {})
    output = text(console)
    assert "unrelated samples of the teacher differ by 0.61" in " ".join(output.split())
    assert "Frechet" not in output
    assert "RMS: distance to the teacher, same noise" in " ".join(output.split())


def test_a_broken_report_is_left_out_of_the_summary(tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "report.json").write_text("{")
    console = page()
    show_summary(console, tmp_path, {})
    assert text(console).split() == ["Numbers", str(tmp_path / "report" / "report.json")]


def start(
    root: Path, *options: str, recipe: Path = GAUSSIAN, profile: str = "inline.yaml"
) -> subprocess.Popen[str]:
    place = ROOT / "infra/profiles" / profile
    return subprocess.Popen(
        command("run", str(recipe), "--run-dir", "chain", "--profile", str(place), *options),
        cwd=root,
        env=environment(PREFECT_HOME=new_home(root)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def events(root: Path) -> list[dict[str, object]]:
    path = root / "chain" / "events.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.is_file() else []
    return [json.loads(line) for line in lines]


def wait_until(process: subprocess.Popen[str], condition: Callable[[], bool]) -> None:
    while not condition():
        assert process.poll() is None
        time.sleep(0.2)


def begun(root: Path, stage: str) -> bool:
    return any(str(event.get("stage")).endswith(stage) for event in events(root))


@pytest.mark.needs_ray
@pytest.mark.parametrize(
    ("number", "stage", "sign", "profile"),
    [
        (signal.SIGINT, "train", "rounds/00-guidance/metrics.jsonl", "inline.yaml"),
        # while Ray waits for updates, where exceptions of other handlers are lost
        pytest.param(
            *(signal.SIGTERM, "train", "rounds/00-guidance/metrics.jsonl", "laptop.yaml"),
            marks=pytest.mark.nightly,
        ),
    ],
)
def test_a_signal_exits_with_130_and_finished_work_is_kept(
    tmp_path: Path, number: signal.Signals, stage: str, sign: str, profile: str
) -> None:
    # takes hours, with few targets
    long = ("--set", "guidance.updates=1000000", "--set", "targets.draws_per_tuple=1.0e+9")
    with start(tmp_path, *SMALLEST, *long, profile=profile) as process:
        wait_until(process, lambda: (tmp_path / "chain" / sign).exists() and begun(tmp_path, stage))
        process.send_signal(number)
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    stopped, log, onward = output.splitlines()[-3:]
    assert stopped.startswith("Stopped  in round 0")
    assert log == "Log      chain/logs/run.log"
    assert onward.startswith("Continue stepfold run ")
    assert "--run-dir chain" in onward
    assert {"data", "teacher"} <= {
        artifact.kind for artifact in Ledger(tmp_path / "chain").records()
    }
    assert events(tmp_path)[-1]["kind"] == "run_interrupted"


@pytest.mark.needs_ray
def test_sigterm_exits_with_130_while_the_driver_itself_computes(tmp_path: Path) -> None:
    captions = GAUSSIAN.with_name("captions.yaml")
    few = ("--set", "data.count=100", "--set", "data.holdout_count=50")
    # takes hours, and reports its progress ten times at most
    long = ("--set", "teacher.components.text_encoder_updates=1000000")
    with start(tmp_path, *few, *long, recipe=captions) as process:
        wait_until(process, lambda: begun(tmp_path, "components"))
        time.sleep(2)  # imports are over, or not: both are the driver's own work
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert output.splitlines()[-3].startswith("Stopped  in components")
    assert events(tmp_path)[-1]["kind"] == "run_interrupted"


@pytest.mark.needs_ray
def test_a_failure_exits_with_1_and_one_paragraph(tmp_path: Path) -> None:
    with start(tmp_path, *SMALLEST, "--set", "guidance.learning_rate=1.0e+38") as process:
        output, _ = process.communicate(timeout=400)
    assert process.returncode == 1
    failed, log, onward = output.splitlines()[-3:]
    assert failed.startswith("Failed   round 0")
    assert "not finite" in failed or "loss is" in failed
    assert log == "Log      chain/logs/run.log"
    assert "guidance.learning_rate=1.0e+38" in onward
    assert "Traceback" not in output
    assert "Traceback" in (tmp_path / "chain" / "logs" / "run.log").read_text()
    assert events(tmp_path)[-1]["kind"] == "run_failed"
