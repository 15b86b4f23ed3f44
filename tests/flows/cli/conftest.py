"""A directory to work in, and a finished run in it."""

import shutil
from pathlib import Path

import pytest

from tests.support.small_run import make_run


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def made_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of `make_run`, shared read-only."""
    return make_run(tmp_path_factory.mktemp("made") / "run")


@pytest.fixture
def run_dir(made_run: Path, workplace: Path) -> Path:
    """A copy of the run at `runs/run`, where commands look for runs."""
    shutil.copytree(made_run, workplace / "runs" / "run")
    return Path("runs/run")
