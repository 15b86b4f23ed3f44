"""The command line as a whole: help, panels, former names, secrets, and `stepfold doctor`."""

import resource
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest
from prefect.settings import PREFECT_HOME, temporary_settings
from typer.main import get_command

from flows.cli.app import PANELS, RENAMED, app
from flows.cli.doctor import examine
from pipeline.config.profile import Profile, TrackingConfig
from pipeline.run_dir.recipe_file import record_profile
from tests.support.terminal import GAUSSIAN, command, environment, invoke, snapshot, stepfold


def test_help_takes_less_than_half_a_second(tmp_path: Path) -> None:
    def processor_seconds() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)  # unlike the wall clock, ours alone
        return usage.ru_utime + usage.ru_stime

    seconds = []
    for _ in range(3):
        before = processor_seconds()
        assert stepfold("--help", cwd=tmp_path).returncode == 0
        seconds.append(processor_seconds() - before)
    assert min(seconds) < 0.5


@pytest.mark.parametrize("option", ["--help", ""])
def test_help_imports_nothing_heavy(tmp_path: Path, option: str) -> None:
    code = (
        f"import sys; sys.argv = ['stepfold', *{option!r}.split()]\n"
        "from flows.cli.app import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'prefect', 'ray', 'mlflow', 'pydantic', 'numpy', 'yaml'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run(
        [command()[0], "-c", code],
        cwd=tmp_path,
        env=environment(),
        check=True,
        capture_output=True,
    )


def test_the_version_is_that_of_the_package() -> None:
    assert invoke("--version") == (0, f"stepfold {version('stepfold')}")


def test_every_command_has_a_panel_and_every_option_has_help() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    shown = set(commands)
    assert shown == {command.__name__ for panel in PANELS.values() for command in panel}
    assert shown == {
        *("init", "plan", "run", "schedule", "sample", "edit", "inpaint", "stylize", "export"),
        *("status", "logs", "report", "compare", "play", "ui", "approve", "evaluate", "verify"),
        *("repair", "clean", "notify", "doctor", "schema"),
    }
    for name in shown:
        code, output = invoke(name, "--help")
        assert code == 0
        assert "Usage" in output
        bare = [each.name for each in commands[name].params if not each.help]
        assert bare == [], name


@pytest.mark.parametrize("former", sorted(RENAMED))
def test_a_former_name_is_refused_with_the_present_one(former: str) -> None:
    for arguments in ((), ("runs/one", "--run-dir", "runs/one"), ("--help",)):
        code, output = invoke(former, *arguments)
        assert code == 2
        assert output.startswith("Refused")
        assert output.endswith(f"use {RENAMED[former]}")
    assert f"│ {former} " not in invoke("--help")[1]


def test_a_usage_error_exits_with_2(workplace: Path) -> None:
    assert invoke("run")[0] == 2
    assert invoke("frobnicate")[0] == 2
    assert snapshot(workplace) == {}


CANARY = "canary-7f3a9c51"


@pytest.mark.parametrize(
    "words",
    [
        ("plan", str(GAUSSIAN), "--set", "tracking.uri=env:STEPFOLD_DATABASE"),
        ("status",),
        ("logs",),
        ("verify", "runs/run"),
        ("clean", "runs/run"),
        ("clean", "--stale", "runs/run"),
    ],
    ids=" ".join,
)
def test_no_command_prints_a_secret(
    words: tuple[str, ...], run_dir: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = f"postgresql://stepfold:{CANARY}@db.invalid/mlflow"
    monkeypatch.setenv("STEPFOLD_DATABASE", secret)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", CANARY)
    record_profile(Profile(tracking=TrackingConfig(uri="env:STEPFOLD_DATABASE")), run_dir)
    (run_dir / "logs").mkdir()
    (run_dir / "logs" / "run.log").write_text("a line\n")
    with temporary_settings({PREFECT_HOME: workplace / "prefect"}):  # without a database
        code, output = invoke(*words)
    assert code in (0, 1)
    assert output != ""
    assert CANARY not in output
    files = [path for path in workplace.rglob("*") if path.is_file()]
    assert not [path for path in files if CANARY.encode() in path.read_bytes()]


@pytest.mark.slow
def test_the_doctor_looks_at_everything_a_run_depends_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", CANARY)
    findings = {finding.topic: finding for finding in examine(tmp_path, {"a page": 0})}
    assert set(findings) >= {
        *("python", "packages", "cores", "memory", "disk", "/dev/shm"),
        *("a page", "torch", "gpu", "prefect"),
    }
    assert "build" in findings["torch"].text
    assert findings["prefect"].verdict == findings["python"].verdict == "good"
    assert CANARY not in str(findings)
