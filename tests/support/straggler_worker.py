"""One rank of a process group in which the last one is slow; writes the slowest rank.

`RANK`, `WORLD_SIZE`, `MASTER_ADDR` and `MASTER_PORT` are torch's; the only argument is the file to
write to.
"""

import json
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from infra.deepspeed.engine import DeepSpeedEngine
from pipeline.training.ema_optimiser import OptimiserPlan
from pipeline.training.monitors import StragglerMonitor
from tests.support.ranks import leave

QUICK_S, SLOW_S = 0.05, 0.2


def main() -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    engine = DeepSpeedEngine(
        nn.Linear(2, 2),
        OptimiserPlan(1e-4, total_updates=100, clip_norm=1.0),
        global_batch=dist.get_world_size(),
        zero_stage=1,
        precision="float32",
    )
    own_time = StragglerMonitor(engine)
    found = []
    for slow in (engine.world_size - 1, 0, None):
        for _ in range(3):
            with own_time.measured():
                time.sleep(SLOW_S if engine.rank == slow else QUICK_S)
            engine.mean(torch.zeros(()))  # where all but the slow one wait
        found.append(own_time.slowest())
    Path(sys.argv[1]).write_text(json.dumps(found))
    leave()


if __name__ == "__main__":
    main()
