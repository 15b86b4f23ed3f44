"""One rank of a round's training, without Ray: the job on standard input, the ranks by torchrun's
environment (`RANK`, `WORLD_SIZE`, `MASTER_ADDR`, `MASTER_PORT`)."""

import json
import sys

import torch
import torch.distributed as dist

from stages.rounds.train_worker import train
from tests.support.ranks import leave


def main() -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    train(json.loads(sys.stdin.read()))
    leave()


if __name__ == "__main__":
    main()
