"""Settings of every test: one torch thread, repeatable property tests, parts of nightly tests."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from hypothesis import HealthCheck, settings

from tests.support.prefect_home import VARIABLE, new_home
from tests.support.shards import parse_shard, select

LONG = ("needs_ray", "needs_browser", "nightly")

torch.set_num_threads(1)

# a shell starts what it puts in the background with Ctrl-C ignored, which every child inherits;
# with a handler here children have the system's default, as a person's terminal gives them
signal.signal(signal.SIGINT, signal.default_int_handler)

# derandomised, so that a failure is the change's and not the day's; the first call of an operator
# is slow, which is no reason to fail
settings.register_profile(
    "stepfold",
    derandomize=True,
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("stepfold")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--shard`."""
    parser.addoption("--shard", default="1/1", metavar="K/N", help="of nightly tests a part only")


@pytest.hookimpl(trylast=True)  # after `-m`
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Drop nightly tests of other parts, and run the files with long tests first."""
    part, parts = parse_shard(config.getoption("--shard"))
    nightly = {item.nodeid for item in items if item.get_closest_marker("nightly")}
    dropped = nightly - select(sorted(nightly), part, parts)
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid in dropped])
    kept = [item for item in items if item.nodeid not in dropped]
    long = {item.path for item in kept if set(LONG) & {mark.name for mark in item.iter_markers()}}
    items[:] = sorted(kept, key=lambda item: item.path not in long)


def _shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of the session that all processes of pytest share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session", autouse=True)
def _prefect_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Give the place of the home that `tests.support.prefect_home` copies."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(VARIABLE, str(_shared(tmp_path_factory) / "prefect-original"))
        yield


@pytest.fixture(scope="session")
def finished_chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run directory of one finished chain, for all tests that only read it.

    It is `flows/recipes/gaussian.yaml` with `--set`s `SMALLEST` (two rounds: any steps, then 1) run
    by `stepfold run` with `INLINE`, both of `tests.support.chain`. All processes of pytest share
    it, so nothing in it may change: a test that runs, damages or edits takes `finished_copy`.
    Beside it are `chain.log` (output), `mlflow.db` and `prefect` (the home of its server).
    """
    from tests.support.chain import INLINE, SMALLEST, finish, log_of

    folder = _shared(tmp_path_factory) / "finished"
    run_dir = folder / "chain"
    with FileLock(f"{folder}.lock"), pytest.MonkeyPatch.context() as environment:
        if not folder.exists():
            folder.mkdir()
            environment.setenv("PREFECT_HOME", new_home(folder))
            environment.delenv("PREFECT_API_URL", raising=False)
            # nobody answers there: a run needs nothing from outside this machine
            environment.setenv("HTTP_PROXY", "http://127.0.0.1:9")
            finish(run_dir, *INLINE, sets=SMALLEST)
    assert (run_dir / "report" / "report.json").exists(), log_of(run_dir).read_text()[-3000:]
    return run_dir


@pytest.fixture
def finished_copy(finished_chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `finished_chain` and of what is beside it, for one test to change or to resume.

    PREFECT_HOME is that of the copy. To resume it: `finish(run_dir, *INLINE, sets=SMALLEST)`.
    """
    folder = tmp_path / "finished"
    shutil.copytree(finished_chain.parent, folder)
    monkeypatch.setenv("PREFECT_HOME", str(folder / "prefect"))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    return folder / finished_chain.name
