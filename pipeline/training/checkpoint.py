"""Checkpoints inside a round: resumable state, committed the way every artifact is.

All ranks write their parts into one staging folder; then rank 0 alone commits it. A checkpoint
counts once its record verifies, so a kill at any point leaves the previous one.
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
        folder: where they lie; every rank sees it.
        key: fingerprint of the round they belong to; others are ignored.
        keep: how many to keep.
        attempt: identity of this attempt; see `claim`.
    """

    def __init__(self, folder: Path, key: str, keep: int, attempt: str) -> None:
        self._folder = folder
        self._ledger = Ledger(folder)
        self._key = key
        self._keep = keep
        self._attempt = attempt

    def restore(self, engine: TrainEngine) -> dict[str, Any]:
        """Load the newest sound checkpoint into the engine; {} if there is none. Collective."""
        if engine.rank == 0 and claimed_by(self._folder) == self._attempt:
            self._forget_old()  # a killed attempt may have come no further than its commit
        engine.mean(torch.zeros((), device=engine.device))  # nobody reads while another commits
        for artifact in reversed(self._own()):
            saved = artifact.details["layout"]
            if saved != engine.layout:
                _log.warning(
                    "checkpoint %s is of %s, this is %s; left aside",
                    *(artifact.path, saved, engine.layout),
                )
            elif self._ledger.damage(artifact) is None:
                _log.info("resuming from update %d", artifact.details["update"])
                return engine.load(self._ledger.locate(artifact))
            else:
                _log.warning("checkpoint %s is damaged; left aside", artifact.path)
        return {}

    def save(self, engine: TrainEngine, update: int) -> None:
        """Commit the engine's state after `update` updates. Collective.

        Raises:
            InfraError: a newer attempt has claimed the round; this one must not write.
        """
        staging = self._folder / f".staging-{self._attempt}"
        if engine.rank == 0:
            self._check_claim()
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir(parents=True)
        engine.mean(torch.zeros((), device=engine.device))  # the folder is there for everybody
        engine.save(staging, {"update": update})
        engine.mean(torch.zeros((), device=engine.device))  # everybody has written
        if engine.rank == 0:
            failpoint("checkpoint.staged")
            self._check_claim()  # writing takes long enough to be superseded
            self._commit(staging, update, engine.layout)

    def clear(self) -> None:
        """Remove all checkpoints; the round's student has been committed."""
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
        for old in self._own()[: -self._keep]:
            self._ledger.forget(old)
            failpoint("checkpoint.forgotten")

    def _own(self) -> list[Artifact]:
        found = [a for a in self._ledger.records() if a.details.get("round") == self._key]
        return sorted(found, key=lambda artifact: int(artifact.details["update"]))

    def _check_claim(self) -> None:
        holder = claimed_by(self._folder)
        if holder != self._attempt:
            raise InfraError(
                f"attempt {self._attempt} lost {self._folder.parent} to attempt {holder} and stops"
            )


def claim(folder: Path, attempt: str) -> None:
    """Make `attempt` the only one that may commit checkpoints in `folder`.

    Workers outlive a killed driver by seconds; without this they could write into its successor.
    What they staged can never be committed from here on, so it goes, and with it what was forgotten
    and not yet removed.
    """
    write_durably(folder / "attempt", attempt)
    failpoint("checkpoint.claimed")
    recorded = {artifact.path for artifact in Ledger(folder).records()}
    for stray in (*folder.glob(".staging-*"), *folder.glob("update-*")):
        if stray.name not in recorded:
            shutil.rmtree(stray, ignore_errors=True)


def claimed_by(folder: Path) -> str:
    """The attempt that may write in `folder`."""
    path = folder / "attempt"
    return path.read_text(encoding="utf-8") if path.is_file() else ""
