"""Monitoring of a round: divergence, throughput, remaining time, memory."""

import time

import pytest
import torch

from pipeline.errors import DivergenceError
from pipeline.training.monitors import (
    PATIENCE,
    DivergenceMonitor,
    ThroughputMeter,
    check_finite,
)

LIMIT = 2.0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_that_is_not_finite_is_refused_at_once(value: float) -> None:
    said = r"round 7: the loss is .* at update 3.*learning_rate"
    with pytest.raises(DivergenceError, match=said):
        DivergenceMonitor("round 7", LIMIT).check(torch.tensor(value), 3)


def test_a_persistently_high_loss_is_refused() -> None:
    watch = DivergenceMonitor("round 7", LIMIT)
    for update in range(PATIENCE - 1):
        assert watch.check(torch.tensor(2 * LIMIT), update) == 2 * LIMIT
    with pytest.raises(DivergenceError, match=r"diverged at update 9: the loss is 4"):
        watch.check(torch.tensor(2 * LIMIT), PATIENCE - 1)


def test_outliers_and_losses_of_any_reason_are_let_pass() -> None:
    watch = DivergenceMonitor("round 7", LIMIT)
    losses = [0.0, 1e-12, 1.0, LIMIT, *([1e30] * (PATIENCE - 1)), 1.0] * 3
    assert [watch.check(torch.tensor(loss), 0) for loss in losses] == pytest.approx(losses)


def test_weights_that_are_not_finite_are_named() -> None:
    weights = {"grid": torch.arange(3), "a": torch.ones(2), "b": torch.tensor([1.0, float("inf")])}
    with pytest.raises(DivergenceError, match="round 7: weight b is not finite"):
        check_finite(weights, "round 7")
    del weights["b"]
    check_finite(weights, "round 7")


def test_pace_and_time_left_are_those_since_the_last_time() -> None:
    meter = ThroughputMeter(start=10, total=50, batch=32, device=torch.device("cpu"))
    began = time.monotonic()
    time.sleep(0.2)
    numbers = meter.of(30)
    took = time.monotonic() - began
    pace = numbers["time/updates_per_s"]
    assert pace == pytest.approx(20 / took, rel=0.1)
    assert numbers["time/samples_per_s"] == pytest.approx(32 * pace)
    assert numbers["time/seconds_left"] == pytest.approx(20 / pace)
    assert 0.05 < numbers["memory/worker_gib"] < 64
    assert "memory/gpu_gib" not in numbers  # it is on the CPU
    assert meter.of(50)["time/seconds_left"] == 0
