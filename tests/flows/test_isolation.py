"""A run never imports what is in the user's working directory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.isolation import OWN, start_file
from flows.scheduled_distillation import scheduled_distillation
from tests.support.terminal import ROOT

MARK = "import pathlib; pathlib.Path({mark!r}).write_text(__name__)\nraise SystemExit(3)\n"
COMMON = ("typer", "yaml", "torch", "ray", "mlflow")
METHOD = """
from typing import ClassVar
from pipeline.config import MethodConfig
class Config(MethodConfig):
    name: ClassVar[str] = "toy"
"""
TOY = """
import sys
sys.path.insert(0, {root!r})
from flows.isolation import leave_working_directory
sys.path.remove({root!r})
leave_working_directory()
from pipeline.config.methods import METHOD_CONFIGS
print(METHOD_CONFIGS.get("toy").__module__)
"""
LOAD = """
import sys
from prefect.utilities.importtools import import_object
print(import_object(sys.argv[1]).name)
"""
WORKERS = """
import socket
from pathlib import Path
from flows.isolation import leave_working_directory
leave_working_directory()
from flows.orchestration.server import prefect_server
from infra.launch import run_jobs
from infra.ray.cluster import cluster
from pipeline.config.profile import ComputeConfig, Profile

profile = Profile(compute=ComputeConfig(workers=1, max_restarts=0))
logs = Path("logs")
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
with prefect_server(port, logs / "prefect.log") as server:
    assert server.origin == "started"
    with cluster(profile, logs):
        factory = "tests.support.training_cases:double"
        print(list(run_jobs(factory, {"folder": "."}, [{"number": 4}], profile)))
"""


def in_the_way(folder: Path, mark: Path) -> Path:
    """A directory with packages of the names of ours and of libraries, which mark their import."""
    for name in OWN:
        (folder / name / "cli").mkdir(parents=True)
        for file in ("__init__.py", "errors.py", "cli/app.py"):
            (folder / name / file).write_text(MARK.format(mark=str(mark)))
    for name in COMMON:
        (folder / f"{name}.py").write_text(MARK.format(mark=str(mark)))
    return folder


def start(folder: Path, *line: str, **changes: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    return subprocess.run(
        [sys.executable, *line],
        cwd=folder,
        env={**inherited, **changes},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


@pytest.mark.parametrize("path", ["", ".", "./", "..:.:"])
def test_a_command_does_not_import_the_working_directory(path: str, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    folder = in_the_way(tmp_path / "here", mark)
    done = start(folder, start_file(), "schema", "recipe", PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    assert "halving" in done.stdout
    assert not mark.exists()


@pytest.mark.slow
def test_own_packages_win_over_an_absolute_entry_which_is_kept(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    folder = in_the_way(tmp_path / "here", mark)
    for name in COMMON:
        (folder / f"{name}.py").unlink()
    (folder / "a_toy.py").write_text(METHOD)
    info = folder / "a_toy-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: a_toy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[stepfold.methods]\na_toy = a_toy\n")
    done = start(folder, "-c", TOY.format(root=str(ROOT)), PYTHONPATH=str(folder))
    assert done.stdout == "a_toy\n", done.stderr
    assert not mark.exists()


@pytest.mark.needs_ray
def test_workers_and_server_do_not_import_the_working_directory(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    folder = in_the_way(tmp_path / "here", mark)
    script = tmp_path / "script.py"
    script.write_text(WORKERS)
    path = f"{ROOT}:."
    done = start(folder, str(script), PYTHONPATH=path, PREFECT_HOME=str(tmp_path / "prefect"))
    assert done.returncode == 0, done.stderr[-3000:]
    assert "8" in done.stdout
    assert not mark.exists()


@pytest.mark.needs_ray
def test_prefect_loads_a_scheduled_flow_without_the_working_directory(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    folder = in_the_way(tmp_path / "here", mark)
    line = ("-P", "-c", LOAD, f"{scheduled_distillation.__module__}.scheduled_distillation")
    done = start(folder, *line, PYTHONPATH=str(ROOT))
    assert done.stdout == "scheduled-distillation\n", done.stderr
    assert not mark.exists()
