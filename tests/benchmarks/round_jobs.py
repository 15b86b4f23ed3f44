"""Rounds for workers to train: a teacher with random weights, random data, a few updates."""

from pathlib import Path
from typing import Any, Literal

from pipeline.config import TrainingConfig
from pipeline.training.checkpoint import claim
from tests.benchmarks.sizes import Size, write_bundle, write_targets

ATTEMPT = "benchmark"


def round_job(
    folder: Path, size: Size, *, updates: int, targets: Literal["pregenerated", "online"]
) -> dict[str, Any]:
    """A halving round of that size as JSON for `tests.benchmarks.round_worker`.

    Args:
        folder: everything is written there, marks too; it does not exist.
        size: network and batch.
        updates: at least 2, so that the first one is seen to end.
        targets: read from disk, or computed in the worker by the teacher.
    """
    folder.mkdir(parents=True)
    training = TrainingConfig(updates=updates, batch_size=size.batch, learning_rate=1e-4)
    plan = size.plan().model_copy(update={"training": training})
    manifest = size.manifest().model_copy(update={"steps": (8,), "jump": 2})
    rows = max(256, size.batch)
    written = write_targets(folder / "targets", size.latent_shape, tars=2, members=1, rows=rows)
    tars = [str(tar) for tar in written.tars] if targets == "pregenerated" else None
    claim(folder / "checkpoints", ATTEMPT)
    return {
        "marks": str(folder),
        "round": {
            "plan": plan.model_dump(mode="json"),
            "key": "benchmark",
            "attempt": ATTEMPT,
            "manifest": manifest.model_dump(mode="json"),
            "teacher": str(write_bundle(folder / "teacher", size, "student")),
            "data": str(written.data),
            "targets": tars,
            "output": str(folder / "student"),
            "checkpoints": str(folder / "checkpoints"),
            "metrics": str(folder / "metrics.jsonl"),
            "engine": {"zero_stage": 1, "checkpoint_every": 10**6},
        },
    }
