"""Verifying committed target shards on resume, against sha256 of as many bytes in memory."""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

from pipeline.ledger import Ledger, fingerprint, lock_run_dir
from pipeline.stamps import MARGIN_NS
from tests.benchmarks.harness import Row, Settings, at_most

THREADS = 2
MOST_FIRST = 1.2
MOST_NEXT_S = 5.0


def measure(settings: Settings) -> list[Row]:
    """Verifying committed target shards on resume, against sha256 of as many bytes in memory.

    1,000 shards of 10 MB, which need 10 GB in the scratch folder, in the page cache. The first
    resume reads every byte and stamps it, the next compares the status of files. `stepfold verify`
    reads every byte each time. All of it on two threads.
    """
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])
    count, size = settings.count(1000, 20), settings.count(10_000_000, 100_000)
    run_dir, block = settings.scratch / "run", os.urandom(size)
    ledger, keys = Ledger(run_dir), [fingerprint(number) for number in range(count)]
    for number, key in enumerate(keys):
        ledger.publish("targets", key, f"targets/{number:05d}", _writer(block, number))
    time.sleep(1.1 * MARGIN_NS / 1e9)  # a run is not resumed within the margin of a stamp

    def hash_memory() -> None:
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(sha256, [block] * count))

    def find() -> None:
        assert len(ledger.find_all(keys)) == count

    def verify() -> None:
        assert not any(problems for _, problems in ledger.read_all(ledger.records()))

    own, own_cpu = _seconds(hash_memory)
    with lock_run_dir(run_dir):
        (first, first_cpu), (following, _) = _seconds(find), _seconds(find)
    verified, _ = _seconds(verify)
    what = f"{count:,} shards of {size / 1e6:g} MB"
    return [
        Row(name="sha256", what=f"{what} in memory: sha256", value=own, unit="s", ratio=1.0),
        Row(
            name="first",
            what=f"{what}: first resume; ratio to sha256",
            value=first,
            unit="s",
            ratio=first / own,
            details={"ratio_of_cpu_seconds": round(first_cpu / own_cpu, 3)},
            **at_most(MOST_FIRST, first / own),
        ),
        Row(
            name="next",
            what=f"{what}: next resume",
            value=following,
            unit="s",
            **at_most(MOST_NEXT_S, following),
        ),
        Row(
            name="verify",
            what=f"{what}: stepfold verify, its hashes; ratio to sha256",
            value=verified,
            unit="s",
            ratio=verified / own,
        ),
    ]


def _writer(block: bytes, number: int) -> Callable[[Path], dict[str, Any]]:
    def write(folder: Path) -> dict[str, Any]:
        (folder / "targets.tar").write_bytes(number.to_bytes(8) + block[8:])
        return {}

    return write


def _seconds(action: Callable[[], None]) -> tuple[float, float]:
    """Seconds by the clock, and of all threads' CPU time."""
    wall, cpu = time.perf_counter(), time.process_time()
    action()
    return time.perf_counter() - wall, time.process_time() - cpu
