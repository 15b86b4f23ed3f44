"""The slowest worker is found, although all workers update in lockstep."""

from pathlib import Path

import pytest
import torch
from torch import nn

from pipeline.training.ema_optimiser import OptimiserPlan
from pipeline.training.engines import TorchEngine
from pipeline.training.monitors import StragglerMonitor
from tests.support.ranks import run_ranks
from tests.support.straggler_worker import QUICK_S, SLOW_S


@pytest.mark.needs_ray
def test_the_slow_worker_is_found_by_all(tmp_path: Path) -> None:
    said, *others = run_ranks("tests/support/straggler_worker.py", 3, tmp_path)
    assert all(other == said for other in others)
    last, first, nobody = said
    assert (last["time/slowest_worker"], first["time/slowest_worker"]) == (2, 0)
    # sleeps last at least as long as requested, and longer on a busy machine
    for found in (last, first):
        assert SLOW_S / QUICK_S / 2 < found["time/slowest_ratio"] < SLOW_S / QUICK_S * 2
    assert 1 <= nobody["time/slowest_ratio"] < 1.5


def test_a_single_worker_has_no_straggler() -> None:
    plan = OptimiserPlan(1e-4, total_updates=9, clip_norm=1.0)
    own_time = StragglerMonitor(TorchEngine(nn.Linear(2, 2), plan))
    with own_time.measured():
        torch.ones(2).sum()
    assert own_time.slowest() == {}
