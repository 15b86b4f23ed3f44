"""Checkpoints of a round, committed in a ledger like every artifact.

All ranks write their parts into one staging folder, then rank 0 commits it. A checkpoint is valid
once its record verifies, so a kill at any point leaves the previous checkpoint.
"""

import logging
import shutil
from pathlib import Path
from typing import Any

import torch

from pipeline.durable import write_durably
from pipeline.errors import InfraError
from pipeline.failpoints import failpoint
from pipeline.ledger import Artifact, Ledger, fingerprint
from pipeline.training.engines import TrainEngine

_log = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one round.

    Args:
        folder: folder of the checkpoints, shared by all ranks.
        key: fingerprint of their round; checkpoints of other rounds are ignored.
        keep: number of checkpoints to keep.
        attempt: identity of this attempt; see `claim`.
    """

    def __init__(self, folder: Path, key: str, keep: int, attempt: str) -> None:
        self._folder = folder
        self._ledger = Ledger(folder)
        self._key = key
        self._keep = keep
        self._attempt = attempt

    def restore(self, engine: TrainEngine) -> dict[str, Any]:
        """Load the newest valid checkpoint and return its state; {} without one. Collective."""
        if engine.rank == 0 and claimed_by(self._folder) == self._attempt:
            self._forget_old()  # an attempt killed after its commit left old checkpoints
        engine.mean(torch.zeros((), device=engine.device))  # barrier: rank 0 has cleaned up
        for artifact in reversed(checkpoints_of(self._ledger, self._key)):
            saved = artifact.details["layout"]
            if saved != engine.layout:
                _log.warning(
                    "skipping checkpoint %s: saved layout %s, current layout %s",
                    *(artifact.path, saved, engine.layout),
                )
            elif self._ledger.damage(artifact) is None:
                _log.info("resuming from update %d", artifact.details["update"])
                return engine.load(self._ledger.locate(artifact))
            else:
                _log.warning("skipping checkpoint %s: damaged", artifact.path)
        return {}

    def save(self, engine: TrainEngine, update: int) -> None:
        """Commit the engine's state after `update` updates. Collective.

        Raises:
            InfraError: a newer attempt claimed the round; this one must not write.
        """
        staging = self._folder / f".staging-{self._attempt}"
        if engine.rank == 0:
            self._check_claim()
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir(parents=True)
        engine.mean(torch.zeros((), device=engine.device))  # barrier: the folder exists
        engine.save(staging, {"update": update})
        engine.mean(torch.zeros((), device=engine.device))  # barrier: all ranks have written
        if engine.rank == 0:
            failpoint("checkpoint.staged")
            self._check_claim()  # another attempt may have started during the write
            self._commit(staging, update, engine.layout)

    def clear(self) -> None:
        """Remove all checkpoints, after the round's student was committed."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _commit(self, staging: Path, update: int, layout: str) -> None:
        def move(temporary: Path) -> dict[str, Any]:
            temporary.rmdir()
            staging.rename(temporary)
            return {"update": update, "round": self._key, "layout": layout}

        key = fingerprint({"round": self._key, "update": update})
        self._ledger.publish("checkpoint", key, f"update-{update:07d}", move)
        failpoint("checkpoint.committed")
        self._forget_old()

    def _forget_old(self) -> None:
        for old in checkpoints_of(self._ledger, self._key)[: -self._keep]:
            self._ledger.forget(old)
            failpoint("checkpoint.forgotten")

    def _check_claim(self) -> None:
        holder = claimed_by(self._folder)
        if holder != self._attempt:
            raise InfraError(
                f"{self._folder.parent} is held by attempt {holder}; superseded attempt "
                f"{self._attempt} exits"
            )


def checkpoints_of(ledger: Ledger, key: str) -> list[Artifact]:
    """Return the recorded checkpoints of the round with this fingerprint, oldest first."""
    found = [a for a in ledger.records() if a.details.get("round") == key]
    return sorted(found, key=lambda artifact: int(artifact.details["update"]))


def claim(folder: Path, attempt: str) -> None:
    """Give `attempt` the exclusive right to commit checkpoints in `folder`.

    Workers outlive a killed driver by seconds; without a claim they could write into the files of
    its successor. Their staged files can no longer be committed and are removed, as are files of
    checkpoints without a record.
    """
    write_durably(folder / "attempt", attempt)
    failpoint("checkpoint.claimed")
    recorded = {artifact.path for artifact in Ledger(folder).records()}
    for stray in (*folder.glob(".staging-*"), *folder.glob("update-*")):
        if stray.name not in recorded:
            shutil.rmtree(stray, ignore_errors=True)


def claimed_by(folder: Path) -> str:
    """Return the attempt that may write in `folder`; "" if none."""
    path = folder / "attempt"
    return path.read_text(encoding="utf-8") if path.is_file() else ""
