"""Numbers of a round at work: pace, the time left, memory."""

import time

import pytest
import torch

from pipeline.training.monitors import ThroughputMeter


def test_pace_and_time_left_are_those_since_the_last_time() -> None:
    vitals = ThroughputMeter(start=10, total=50, batch=32, device=torch.device("cpu"))
    began = time.monotonic()
    time.sleep(0.2)
    numbers = vitals.of(30)
    took = time.monotonic() - began
    assert numbers["time/updates_per_s"] == pytest.approx(20 / took, rel=0.1)
    assert numbers["time/samples_per_s"] == pytest.approx(32 * numbers["time/updates_per_s"])
    left = 20 / numbers["time/updates_per_s"]
    assert numbers["time/seconds_left"] == pytest.approx(left)
    assert 0.05 < numbers["memory/worker_gib"] < 64
    assert "memory/gpu_gib" not in numbers  # it is on the CPU
    assert vitals.of(50)["time/seconds_left"] == 0
