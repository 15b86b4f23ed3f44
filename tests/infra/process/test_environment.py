"""Telemetry is off and the user's own settings stay."""

import os
import subprocess
import sys

from infra.process.environment import set_environment_defaults, set_private_umask


def test_telemetry_is_off_by_default(monkeypatch):
    for name in ("DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY", "RAY_USAGE_STATS_ENABLED"):
        monkeypatch.delenv(name, raising=False)
    set_environment_defaults()
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert os.environ["DO_NOT_TRACK"] == "true"  # MLflow does not take 1
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


def test_what_the_user_set_stays(monkeypatch):
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")
    set_environment_defaults()
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "1"


def test_settling_and_naming_work_imports_nothing_heavy():
    script = (
        "import sys, infra.process.environment, infra.launch, infra.ray.cluster\n"
        "import infra.tracking, infra.metric_forwarder\n"
        "heavy = {'torch', 'ray', 'mlflow', 'deepspeed'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_files_made_from_now_on_are_their_users_alone(tmp_path):
    before = os.umask(0o022)
    try:
        set_private_umask()
        (tmp_path / "file").touch()
        (tmp_path / "folder").mkdir()
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o700
