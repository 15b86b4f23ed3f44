"""The worker that the others wait for: told by what each takes by itself between two meetings.

All workers of a round make their updates in step, so a slow one makes all slow, and from outside
they look alike.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from pipeline.training.engine import TrainEngine


class OwnTime:
    """Seconds that this rank spends on its own share of the work, without waiting for others."""

    def __init__(self, engine: TrainEngine) -> None:
        self._engine = engine
        self._seconds = 0.0

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Count the time of the block.

        Where the forward pass itself waits for others (ZeRO 3, a split teacher), a slow worker
        shows less than it is.
        """
        began = time.monotonic()
        yield
        if self._engine.device.type == "cuda":  # the loss is read right after, so nothing is lost
            torch.cuda.synchronize(self._engine.device)
        self._seconds += time.monotonic() - began

    def slowest(self) -> dict[str, float]:
        """Which worker took longest since the last call, and how long. Collective.

        Returns:
            `time/slowest_worker`, its rank, and `time/slowest_ratio`, its seconds over the median
            of the others'; empty where there is one worker only.
        """
        ranks = self._engine.world_size
        if ranks == 1:
            return {}
        mine = torch.zeros(ranks, dtype=torch.float64, device=self._engine.device)
        mine[self._engine.rank] = self._seconds
        self._seconds = 0.0
        all_seconds = self._engine.mean(mine).cpu() * ranks
        worker = int(all_seconds.argmax())
        others = torch.cat([all_seconds[:worker], all_seconds[worker + 1 :]])
        ratio = float(all_seconds[worker] / others.median().clamp(min=1e-9))
        return {"time/slowest_worker": float(worker), "time/slowest_ratio": ratio}
