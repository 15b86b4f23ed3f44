"""A process group without Ray: the same script on every rank, with results in JSON."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parents[2]


def run_ranks(script: str, workers: int, folder: Path, *arguments: str) -> list[Any]:
    """Return what each rank writes to the file given as its first argument."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "WORLD_SIZE": str(workers),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
        "MALLOC_MMAP_THRESHOLD_": "65536",  # what is freed goes back at once, and is not counted
    }
    ranks = [
        subprocess.Popen(
            [sys.executable, ROOT / script, folder / str(rank), *arguments],
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.DEVNULL,
            stderr=(folder / f"{rank}.log").open("w"),
        )
        for rank in range(workers)
    ]
    try:
        ends = [rank.wait(timeout=240) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert ends == [0] * workers, (folder / "0.log").read_text()[-2000:]
    return [json.loads((folder / str(rank)).read_text()) for rank in range(workers)]


def leave() -> NoReturn:
    """Exit a finished rank immediately: gloo's threads can abort during C++ teardown."""
    import torch.distributed as dist

    dist.destroy_process_group()
    os._exit(0)
