"""One rank of a process group that measures its memory under each ZeRO stage.

`RANK`, `WORLD_SIZE`, `MASTER_ADDR` and `MASTER_PORT` are torch's; the only argument is the file to
write to. glibc must give large blocks back at once (`MALLOC_MMAP_THRESHOLD_`), so that what the
process holds is what is alive.
"""

import gc
import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from infra.deepspeed.engine import DeepSpeedEngine
from infra.deepspeed.memory_model import Precision, ZeroStage
from pipeline.training.ema_optimiser import OptimiserPlan
from tests.support.ranks import leave

WIDTH, LAYERS = 1024, 24
PARAMETERS = LAYERS * WIDTH**2
CASES: tuple[tuple[ZeroStage, Precision, bool], ...] = (
    (0, "float32", False),
    (1, "float32", False),
    (1, "float32", True),
    (1, "bfloat16", False),
    (2, "float32", False),
    (2, "bfloat16", True),
    (3, "float32", False),
    (3, "bfloat16", False),
)


def name_of(stage: int, precision: str, ema: bool) -> str:
    return f"ZeRO {stage} {precision}{' average' if ema else ''}"


def resident(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def peak(width: int, layers: int, stage: ZeroStage, precision: Precision, ema: bool) -> int:
    """Return the peak memory of the second update, above the initial memory."""
    gc.collect()
    before = resident("VmRSS")
    module = nn.Sequential(*(nn.Linear(width, width, bias=False) for _ in range(layers)))
    engine = DeepSpeedEngine(
        module,
        OptimiserPlan(1e-4, total_updates=100, clip_norm=1.0, ema_decay=0.99 if ema else 0.0),
        global_batch=dist.get_world_size(),
        zero_stage=stage,
        precision=precision,
    )
    for _ in range(2):  # the moments are made in the first
        forget_peak()
        x = torch.ones(1, width, dtype=getattr(torch, precision))
        engine.backward(engine.module(x).float().square().mean())
        engine.step()
    return resident("VmHWM") - before


def main() -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    found = {}
    for case in CASES:
        peak(64, 2, *case)  # what libraries make at first use, and what they kept of the last case
        found[name_of(*case)] = peak(WIDTH, LAYERS, *case) / PARAMETERS
    Path(sys.argv[1]).write_text(json.dumps(found))
    leave()


if __name__ == "__main__":
    main()
