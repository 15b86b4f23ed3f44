"""How a round does while it trains: its pace, the time left, the memory of a worker."""

import time

import psutil
import torch

_GIB = 2**30


class Vitals:
    """Numbers of the first worker since the last time they were asked for.

    Args:
        start: updates done when it is made.
        total: updates of the round.
        batch: samples of an update.
        device: where the network is.
    """

    def __init__(self, start: int, total: int, batch: int, device: torch.device) -> None:
        self._total = total
        self._batch = batch
        self._device = device
        self._process = psutil.Process()
        self._last = (start, time.monotonic())

    def of(self, done: int) -> dict[str, float]:
        """Updates and samples a second, seconds to the end at that rate, GiB held by now.

        `memory/worker_gib` is what the process holds in memory, `memory/gpu_gib` the most that its
        tensors have had on the GPU.
        """
        before, since = self._last
        self._last = (done, time.monotonic())
        rate = (done - before) / max(self._last[1] - since, 1e-9)
        numbers = {
            "time/updates_per_s": rate,
            "time/samples_per_s": rate * self._batch,
            "time/seconds_left": (self._total - done) / rate,
            "memory/worker_gib": self._process.memory_info().rss / _GIB,
        }
        if self._device.type == "cuda":
            numbers["memory/gpu_gib"] = torch.cuda.max_memory_allocated(self._device) / _GIB
        return numbers
