"""The command line: exit codes, help, and the commands that look."""

import json
import resource
import subprocess
from pathlib import Path

import pytest
from prefect.settings import PREFECT_HOME, temporary_settings
from typer.main import get_command

from flows.cli.app import app
from pipeline.config.profile import Profile, TrackingConfig
from pipeline.identity import identify
from pipeline.run_dir.recipe_file import record_profile
from tests.support.small_run import make_run
from tests.support.terminal import GAUSSIAN, RUN, command, environment, invoke, snapshot, stepfold


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_everything_wrong_with_a_recipe_is_said_at_once(workplace: Path) -> None:
    code, output = invoke(
        *RUN, str(GAUSSIAN), "--set", "guidance.updates=0", "--set", "run.name=a b"
    )
    assert code == 2
    assert "guidance.updates" in output
    assert "run.name" in output


def test_a_directory_in_use_is_refused_and_names_its_holder(workplace: Path) -> None:
    holding = (
        "import sys, pathlib; from pipeline.ledger import hold\n"
        "with hold(pathlib.Path('out')): print('held', flush=True); sys.stdin.read()"
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


def test_help_comes_within_half_a_second(tmp_path: Path) -> None:
    seconds = []
    for _ in range(3):
        before = _processor_seconds_of_children()
        assert stepfold("--help", cwd=tmp_path).returncode == 0
        seconds.append(_processor_seconds_of_children() - before)
    assert min(seconds) < 0.5


def _processor_seconds_of_children() -> float:
    # unlike the clock on the wall, it does not count what else the machine is doing
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@pytest.mark.parametrize("option", ["--help", ""])
def test_help_imports_nothing_heavy(tmp_path: Path, option: str) -> None:
    code = (
        f"import sys; sys.argv = ['stepfold', *{option!r}.split()]\n"
        "from flows.cli.app import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'prefect', 'ray', 'mlflow', 'pydantic', 'numpy', 'ruamel'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run(
        [command()[0], "-c", code],
        cwd=tmp_path,
        env=environment(),
        check=True,
        capture_output=True,
    )


def test_every_command_explains_itself() -> None:
    names = list(get_command(app).commands)  # type: ignore[attr-defined]
    assert set(names) == {
        *("run", "plan", "export", "evaluate", "sample", "ui", "status", "page", "logs"),
        *("schedule", "clean", "doctor", "verify", "repair", "reap", "init", "schema"),
        *("edit", "inpaint", "stylize", "play", "compare", "accept", "notify"),
    }
    for name in names:
        code, output = invoke(name, "--help")
        assert code == 0
        assert "Usage" in output


def test_a_usage_error_is_a_refusal(workplace: Path) -> None:
    assert invoke("run")[0] == 2
    assert invoke("frobnicate")[0] == 2
    assert snapshot(workplace) == {}


def test_the_plan_says_what_is_to_do_and_creates_nothing(workplace: Path) -> None:
    code, output = invoke("plan", str(GAUSSIAN))
    assert code == 0
    assert "round 2: 2 -> 1 steps" in output
    assert "1 800" in output  # updates of three rounds
    assert "9 of 9 stages to do" in output
    assert snapshot(workplace) == {}


def test_status_and_logs_of_no_run_are_refused(workplace: Path) -> None:
    for name in ("status", "logs"):
        code, output = invoke(name)
        assert code == 2
        assert "no run below" in output
        code, output = invoke(name, "--run-dir", "nope")
        assert code == 2
        assert "no run directory" in output


def test_logs_shows_the_end_of_the_log(workplace: Path) -> None:
    folder = workplace / "runs" / "one"
    (folder / "logs").mkdir(parents=True)
    (folder / "recipe.yaml").write_text(GAUSSIAN.read_text())
    (folder / "logs" / "run.log").write_text("".join(f"line {n}\n" for n in range(100)))
    code, output = invoke("logs", "--lines", "2")
    assert (code, output) == (0, "line 98 line 99")


def test_the_holder_of_a_lock_is_told_apart_from_a_dead_one(workplace: Path) -> None:
    folder = workplace / "runs" / "one"
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(GAUSSIAN.read_text())
    assert "stopped" in invoke("status")[1]
    me = identify().model_dump()
    (folder / ".lock-holder.json").write_text(json.dumps(me))
    assert "running" in invoke("status")[1]
    with subprocess.Popen(["true"]) as gone:
        pass
    (folder / ".lock-holder.json").write_text(json.dumps({**me, "pid": gone.pid}))
    assert f"left by process {gone.pid}, which is gone" in invoke("status")[1]


CANARY = "canary-7f3a9c51"


@pytest.mark.parametrize(
    "words",
    [
        ("plan", str(GAUSSIAN), "--set", "tracking.uri=env:STEPFOLD_DATABASE"),
        ("status",),
        ("logs",),
        ("verify", "runs/one"),
        ("clean", "runs/one"),
        ("reap", "runs/one"),
        ("doctor",),
    ],
    ids=lambda words: words[0],
)
def test_no_command_says_a_secret(
    words: tuple[str, ...], workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = f"postgresql://stepfold:{CANARY}@db.invalid/mlflow"
    monkeypatch.setenv("STEPFOLD_DATABASE", secret)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", CANARY)
    run_dir = make_run(workplace / "runs" / "one")
    record_profile(Profile(tracking=TrackingConfig(uri="env:STEPFOLD_DATABASE")), run_dir)
    (run_dir / "logs").mkdir()
    (run_dir / "logs" / "run.log").write_text("a line\n")
    with temporary_settings({PREFECT_HOME: workplace / "prefect"}):  # none has run there
        code, said = invoke(*words)
    assert code in (0, 1)
    assert said != ""
    assert CANARY not in said
    files = [path for path in workplace.rglob("*") if path.is_file()]
    assert not [path for path in files if CANARY.encode() in path.read_bytes()]
