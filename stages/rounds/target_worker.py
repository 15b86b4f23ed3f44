"""Inside a Ray worker of stage `pregenerate`: the teacher answers shard after shard."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.data.open_samples import open_samples
from pipeline.data.records import write_records
from pipeline.errors import DivergenceError
from pipeline.ledger import Ledger
from pipeline.models.assemble import family_of, load_denoiser
from pipeline.randomness import RowRandom
from pipeline.training.batches import on_device, to_columns
from pipeline.training.build_method import method_of
from pipeline.training.round_plan import RoundPlan

CHUNK = 256
"""Most tuples in one question; a shard is cut into equal chunks, as few as can be."""


def open_worker(spec: dict[str, Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A function that computes and commits one target shard a call."""
    return TargetWorker(spec).serve


class TargetWorker:
    """A teacher and the data it is asked about."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._plan = RoundPlan.model_validate(spec["plan"])
        manifest, self._teacher = load_denoiser(Path(spec["teacher"]), self._device)
        self._method = method_of(self._plan, family_of(manifest))
        self._samples = open_samples(Path(spec["data"]), "train")
        self._ledger = Ledger(Path(spec["run_dir"]))
        self._parents = tuple(spec["parents"])
        self._dtype: torch.dtype = getattr(torch, spec["dtype"])
        self._asking = threading.Lock()

    def serve(self, job: dict[str, Any]) -> dict[str, Any]:
        """Compute one (data shard, pass) and commit it; the artifact as JSON.

        May be called from several threads: one at a time computes, the others write.
        """

        def write(folder: Path) -> dict[str, Any]:
            return {"tuples": write_records(folder / "targets.tar", self._chunks(job))}

        artifact = self._ledger.publish("targets", job["key"], job["path"], write, self._parents)
        return artifact.model_dump(mode="json")

    def _chunks(self, job: dict[str, Any]) -> Iterator[dict[str, Tensor]]:
        # chunk boundaries are fixed per shard: the batch size alone changes a forward by 1e-6
        rows = np.arange(job["first"], job["first"] + job["count"])
        for chunk in np.array_split(rows, -(-len(rows) // CHUNK)):
            with self._asking:
                answer = self._answer(chunk, job["first_tuple"] + int(chunk[0]) - job["first"])
            yield answer

    @torch.inference_mode()
    def _answer(self, rows: "np.ndarray[Any, np.dtype[np.int64]]", first: int) -> dict[str, Tensor]:
        random = RowRandom(self._plan.stream, first, len(rows))
        draws = self._method.draw(self._teacher.schedule, self._samples.read(rows), random)
        draws = self._method.settle(self._teacher, on_device(draws, self._device), random)
        target = self._method.target(self._teacher, draws)
        columns = to_columns(draws, target, self._dtype)
        # as they are stored: what is finite may be too large for 16 bits
        if not all(bool(column.isfinite().all()) for column in columns.values()):
            raise DivergenceError(
                f"{self._plan.title}: the teacher's answers are not finite as {self._dtype}; check "
                "its bundle, prediction type and schedule, or use targets.dtype: float32"
            )
        return {
            "tuple": torch.arange(first, first + len(rows)),
            "sample": torch.from_numpy(rows),
            **{name: column.cpu() for name, column in columns.items()},
        }
