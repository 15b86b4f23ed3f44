"""Workers and nodes that die or hang in the middle of a chain."""

import contextlib
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from ray.cluster_utils import Cluster

from pipeline.ledger import Ledger
from pipeline.tracking import read_metrics
from tests.faults.conftest import DisturbedChain, MakeRow
from tests.support.chain import (
    SMALLEST,
    TARGETS,
    TRAIN,
    Process,
    digests,
    has_checkpoint,
    start,
    started,
)

pytestmark = [pytest.mark.nightly, pytest.mark.needs_ray]


# late in a worker, so that the one in its place does not come so far; the driver closes three tars
HANGS = {"targets": "tar.closed=stop@4", "train": "checkpoint.committed=stop@2"}


def workers_of(process: Process) -> dict[psutil.Process, str]:
    """Return the workers of a chain with their state; Ray puts it into process titles."""
    found = {}
    for each in psutil.Process(process.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error, IndexError):
            if each.cmdline()[0].startswith(("ray::JobServer", "ray::RayTrainWorker")):
                found[each] = each.status()
    return found


@pytest.mark.parametrize("stage", HANGS)
def test_a_worker_that_hangs_is_noticed_within_a_minute(
    stage: str, chain: DisturbedChain, fault_row: MakeRow
) -> None:
    row = fault_row("5", "worker stopped (SIGSTOP)", stage)
    process = start(chain.run_dir, sets=SMALLEST, armed=HANGS[stage])
    while psutil.STATUS_STOPPED not in (workers := workers_of(process)).values():
        assert process.poll() is None, chain.log[-3000:]
        time.sleep(0.1)
    began = time.monotonic()
    while not workers_of(process).keys() - workers.keys():  # one in its place
        assert time.monotonic() - began < 120
        time.sleep(0.1)
    row.noticed_s = time.monotonic() - began
    assert row.noticed_s <= 60
    chain.check_exit(process)
    assert not any(worker.is_running() for worker in workers)
    row.outcome = "resumed"
    row.lost = "one shard" if stage == "targets" else "from the last checkpoint"
    chain.check_result()


STRAGGLING = [
    *SMALLEST,
    *("--set", "compute.workers=2", "--set", "guidance.updates=6000"),
    *("--set", "engine.checkpoint_every=2000", "--set", "engine.log_every=50"),
]


def named_straggler(process: Process, metrics: Path, slow: psutil.Process) -> dict[str, float]:
    """Stop a process two thirds of the time until three logs in a row report one worker."""
    deadline = time.monotonic() + 60
    seen = len(list(read_metrics(metrics)))
    while process.poll() is None and time.monotonic() < deadline:
        slow.suspend()
        time.sleep(0.06)
        slow.resume()
        time.sleep(0.03)
        last = list(read_metrics(metrics))[seen:][-3:]
        names = {line["time/slowest_worker"] for line in last}
        if len(last) == 3 and len(names) == 1 and all(ratio_of(line) >= 1.5 for line in last):
            return last[-1]
    raise AssertionError(f"nobody was named: {list(read_metrics(metrics))[-3:]}")


def ratio_of(line: dict[str, float]) -> float:
    return line["time/slowest_ratio"]


def test_a_straggler_is_named_with_its_ratio(chain: DisturbedChain, fault_row: MakeRow) -> None:
    row = fault_row("21b", "a worker stopped two thirds of the time", "train")
    process = chain.start(TRAIN, sets=STRAGGLING)
    metrics = chain.run_dir / "rounds/00-guidance/metrics.jsonl"
    while not list(read_metrics(metrics)):
        assert process.poll() is None, chain.log[-3000:]
        time.sleep(0.1)
    one, other = workers_of(process)
    began = time.monotonic()
    first = named_straggler(process, metrics, one)
    row.noticed_s = time.monotonic() - began
    second = named_straggler(process, metrics, other)
    named = {first["time/slowest_worker"], second["time/slowest_worker"]}
    assert named == {0, 1}
    chain.check_exit(process)
    row.outcome, row.lost = "resumed", f"named, {ratio_of(first):.1f} times as slow"


@pytest.fixture
def two_nodes() -> Iterator[Any]:
    """A Ray of two nodes with one CPU each."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    yield cluster
    cluster.shutdown()


ELSEWHERE = [*SMALLEST, "--set", "compute.workers=2", "--set", "compute.start_timeout_s=20"]


def test_a_node_dies_and_targets_are_made_on_the_other(
    chain: DisturbedChain, fault_row: MakeRow, two_nodes: Any
) -> None:
    row = fault_row("4", "a Ray node dies", "targets")
    address = ("--set", f"compute.ray_address={two_nodes.address}")
    process = chain.start(TARGETS, *address, sets=ELSEWHERE)
    two_nodes.remove_node(two_nodes.worker_nodes.copy().pop(), allow_graceful=False)
    began = time.monotonic()
    while not started(TRAIN)(chain.run_dir) and process.poll() is None:
        assert time.monotonic() - began < 300
        time.sleep(0.2)
    row.recovered_s = time.monotonic() - began
    targets = digests(chain.run_dir, "targets")
    assert targets
    assert targets.items() <= digests(chain.undisturbed, "targets").items()
    # two workers do not fit on one node: the round is refused by name, and one worker continues
    chain.check_exit(process, 1)
    refused = fault_row("4", "a Ray node dies", "train")
    refused.noticed_s = time.monotonic() - began
    refused.outcome, row.outcome, row.lost = "refused", "resumed", "one shard"
    assert "Failed   round 0: guidance, any w in one evaluation, train: " in chain.log
    chain.finish(*address, "--set", "compute.workers=1", sets=ELSEWHERE)
    chain.check_result()


def test_a_driver_run_again_within_a_second_shuts_the_old_workers_out(
    chain: DisturbedChain, fault_row: MakeRow
) -> None:
    row = fault_row("2", "kill -9 of the driver, run again at once", "train")
    process = chain.start(TRAIN)
    while not has_checkpoint("00-guidance")(chain.run_dir):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    row.recovered_s = chain.finish()
    row.outcome, row.lost = "resumed", "from the last checkpoint"
    chain.check_result()
    assert all(
        Ledger(chain.run_dir).damage(each) is None for each in Ledger(chain.run_dir).records()
    )
