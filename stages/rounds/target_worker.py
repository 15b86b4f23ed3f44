"""Ray worker of target generation: the teacher computes one target shard per job."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.data.latents import open_samples
from pipeline.data.records import write_records
from pipeline.errors import DivergenceError
from pipeline.ledger import Ledger
from pipeline.methods.method import Networks
from pipeline.models.assemble import family_of, load_denoiser
from pipeline.randomness import RowRandom
from pipeline.run_dir.layout import TARGETS_TAR
from pipeline.training.batches import method_of, on_device, to_columns
from pipeline.training.round_plan import RoundPlan

CHUNK = 256
"""Maximum tuples per forward pass; a shard is cut into the fewest equal chunks."""


def open_worker(spec: dict[str, Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return a function that computes and commits one target shard per call."""
    return TargetWorker(spec).serve


class TargetWorker:
    """The teacher and the training samples."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._plan = RoundPlan.model_validate(spec["plan"])
        manifest, self._teacher = load_denoiser(Path(spec["teacher"]), self._device)
        self._networks = Networks(teacher=self._teacher)
        self._method = method_of(self._plan, family_of(manifest))
        self._samples = open_samples(Path(spec["data"]), "train")
        self._ledger = Ledger(Path(spec["run_dir"]))
        self._parents = tuple(spec["parents"])
        self._dtype: torch.dtype = getattr(torch, spec["dtype"])
        self._computing = threading.Lock()

    def serve(self, job: dict[str, Any]) -> dict[str, Any]:
        """Compute and commit one (data shard, pass); return the artifact as JSON.

        Thread-safe: one call at a time computes, the others write.
        """

        def write(folder: Path) -> dict[str, Any]:
            return {"tuples": write_records(folder / TARGETS_TAR, self._chunks(job))}

        artifact = self._ledger.publish("targets", job["key"], job["path"], write, self._parents)
        return artifact.model_dump(mode="json")

    def _chunks(self, job: dict[str, Any]) -> Iterator[dict[str, Tensor]]:
        # chunk boundaries are fixed per shard, because the batch size changes outputs by 1e-6
        rows = np.arange(job["first"], job["first"] + job["count"])
        for chunk in np.array_split(rows, -(-len(rows) // CHUNK)):
            with self._computing:
                columns = self._compute(chunk, job["first_tuple"] + int(chunk[0]) - job["first"])
            yield columns

    @torch.inference_mode()
    def _compute(
        self, rows: "np.ndarray[Any, np.dtype[np.int64]]", first: int
    ) -> dict[str, Tensor]:
        random = RowRandom(self._plan.stream, first, len(rows))
        draws = self._method.draw(self._teacher.schedule, self._samples.read(rows), random)
        draws, target = self._method.prepare(self._networks, on_device(draws, self._device), random)
        if target is None:
            raise TypeError(f"method {self._plan.method} has no targets; set targets.mode: online")
        columns = to_columns(draws, target, self._dtype)
        # checked as stored, because finite values may overflow 16 bits
        if not all(bool(column.isfinite().all()) for column in columns.values()):
            raise DivergenceError(
                f"{self._plan.title}: the teacher's targets are not finite as {self._dtype}; check "
                "its bundle, prediction type and schedule, or use targets.dtype: float32"
            )
        return {
            "tuple": torch.arange(first, first + len(rows)),
            "sample": torch.from_numpy(rows),
            **{name: column.cpu() for name, column in columns.items()},
        }
