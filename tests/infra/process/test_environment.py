"""Telemetry is off and the user's own settings stay."""

import os
import subprocess
import sys

import pytest

from infra.process.environment import (
    check_home,
    proxied_loopback,
    set_environment_defaults,
    set_private_umask,
)
from pipeline.errors import ConfigError


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


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "127.0.0.1,localhost,::1"),
        ({"NO_PROXY": ".corp,localhost"}, ".corp,localhost,127.0.0.1,::1"),
        ({"no_proxy": "a.corp", "NO_PROXY": "b.corp"}, "a.corp,127.0.0.1,localhost,::1"),
        ({"no_proxy": "*"}, "*"),
    ],
)
def test_this_machine_is_never_reached_by_a_proxy(monkeypatch, given, expected):
    for name in ("http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    set_environment_defaults()
    assert "no_proxy" not in os.environ  # nothing to do without a proxy
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.corp:3128")
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert bool(proxied_loopback()) == (expected != "*")
    set_environment_defaults()
    assert os.environ["no_proxy"] == expected
    assert proxied_loopback() == []
    kept = given.get("NO_PROXY", expected)
    assert set(kept.split(",")) <= set(os.environ.get("NO_PROXY", kept).split(","))


def test_a_run_needs_a_home(monkeypatch, tmp_path):
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "not" / "there" / "yet"))
    check_home()
    assert not (tmp_path / "not").exists()
    (tmp_path / "file").touch()
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "file" / "prefect"))
    with pytest.raises(ConfigError, match=r"PREFECT_HOME: .*file cannot be written .* set PREFECT"):
        check_home()
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_000)  # without an entry
    with pytest.raises(ConfigError, match=r"HOME: not set, and user 4000000000 .* export HOME="):
        check_home()


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
