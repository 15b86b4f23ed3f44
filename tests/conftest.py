"""Settings of every test: one torch thread, repeatable property tests, parts of nightly tests."""

import signal

import pytest
import torch
from hypothesis import HealthCheck, settings

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
    """Drop nightly tests of other parts, and begin with the files whose tests take long."""
    part, parts = parse_shard(config.getoption("--shard"))
    nightly = {item.nodeid for item in items if item.get_closest_marker("nightly")}
    dropped = nightly - select(sorted(nightly), part, parts)
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid in dropped])
    kept = [item for item in items if item.nodeid not in dropped]
    long = {item.path for item in kept if set(LONG) & {mark.name for mark in item.iter_markers()}}
    items[:] = sorted(kept, key=lambda item: item.path not in long)
