"""One rank of a process group that trains with a full teacher, then with a sharded one.

The arguments are the file to answer in, and one that holds both jobs.
"""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from infra.deepspeed.engine import partition_over_workers
from stages.rounds.train_worker import train
from tests.support.ranks import leave
from tests.support.zero_worker import LAYERS, PARAMETERS, WIDTH, forget_peak, resident


def held_by_a_split_network() -> float:
    """Return the bytes per parameter that are held between two evaluations."""
    before = resident("VmRSS")
    layers = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(LAYERS))
    network = partition_over_workers(nn.Sequential(*layers).requires_grad_(requires_grad=False))
    with torch.inference_mode():
        for _ in range(2):
            forget_peak()
            network(torch.ones(1, WIDTH))
    return (resident("VmRSS") - before) / PARAMETERS


def main() -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    for job in json.loads(Path(sys.argv[2]).read_text()):
        train(job)
    Path(sys.argv[1]).write_text(json.dumps(held_by_a_split_network()))
    leave()


if __name__ == "__main__":
    main()
