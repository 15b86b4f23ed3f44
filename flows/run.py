"""The run as a value that tasks and subflows take as a parameter, and its outbox."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from infra.tracking import tracker_of
from pipeline.config import Recipe
from pipeline.config.profile import Profile
from pipeline.documents import Document
from pipeline.durable import write_durably
from pipeline.errors import InfraError
from pipeline.ledger import Artifact
from pipeline.run_dir.events import Events, Timing
from pipeline.run_dir.layout import RunDir
from pipeline.tracking import RunTracker
from pipeline.training.round_plan import RoundPlan
from stages.workspace import Workspace

_log = logging.getLogger(__name__)


class Outbox:
    """The pending tracker updates of a run directory: an unreachable tracker does not stop a run.

    All data sent to the tracker is first in the run directory: metrics in a file per round,
    promotions and reports as artifacts. The outbox file lists the updates that could not be
    delivered. The end of the run delivers them, or the next run of the same directory; delivery is
    idempotent.
    """

    def __init__(self, run_dir: Path) -> None:
        self._path = RunDir(run_dir).outbox

    def pending(self) -> list[str]:
        """Return the keys of pending updates, in order."""
        try:
            found: list[str] = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # no file, or not JSON
            return []
        return found

    @contextmanager
    def delivering(self, key: str) -> Iterator[None]:
        """Deliver the update `key` in the block; add it to the outbox if the tracker fails.

        The block must not raise InfraError for any other reason.
        """
        try:
            yield
        except InfraError as error:
            _log.warning("%s; queued update %s for later delivery", error, key)
            if key not in self.pending():
                write_durably(self._path, json.dumps([*self.pending(), key], indent=1))
        else:
            self.drop(key)

    def drop(self, key: str) -> None:
        """Remove an update from the outbox."""
        left = self.pending()
        if key not in left:
            return
        left.remove(key)
        if left:
            write_durably(self._path, json.dumps(left, indent=1))
        else:
            self._path.unlink(missing_ok=True)


class Run(Document):
    """A run in progress, serializable to JSON.

    Attributes:
        recipe: resolved recipe.
        profile: compute profile.
        path: run directory, absolute.
        chain_id: id of its tracked run, the parent of the rounds' runs.
    """

    recipe: Recipe
    profile: Profile
    path: str
    chain_id: str

    @property
    def run_dir(self) -> Path:
        """The run directory."""
        return Path(self.path)

    @property
    def workspace(self) -> Workspace:
        """The workspace that stages take."""
        return Workspace(self.run_dir, self.recipe, self.profile)

    @cached_property
    def events(self) -> Events:
        """Events of the run."""
        return Events(self.run_dir)

    @cached_property
    def timing(self) -> Timing:
        """Seconds per stage."""
        return Timing(self.run_dir)

    @cached_property
    def outbox(self) -> Outbox:
        """Pending updates of the tracker."""
        return Outbox(self.run_dir)

    @cached_property
    def tracker(self) -> RunTracker:
        """The experiment tracker of the run."""
        return tracker_of(self.profile.tracking, self.run_dir.parent)


def resolve_run_dir(recipe: Recipe, profile: Profile, run_dir: str) -> Path:
    """Return the absolute run directory; `<storage.root>/<run.name>` if `run_dir` is empty."""
    return (Path(run_dir) if run_dir else Path(profile.storage.root) / recipe.run.name).absolute()


Attempt = tuple[RoundPlan, Artifact | None]
"""The plan of an attempt at a round, and its student; None if training diverged."""


@dataclass(frozen=True)
class CompletedRound:
    """A round with an accepted student.

    Attributes:
        plan: the round as planned in the recipe.
        attempts: its attempts, in order; the student of the last was accepted. Without a gate
            there is one attempt, whose plan is that of the round.
    """

    plan: RoundPlan
    attempts: tuple[Attempt, ...]

    @property
    def accepted(self) -> RoundPlan:
        """Plan of the accepted attempt, to which the student's metrics belong."""
        return self.attempts[-1][0]

    @property
    def student(self) -> Artifact:
        """The accepted student."""
        student = self.attempts[-1][1]
        if student is None:
            raise TypeError(f"{self.plan.title}: student is None in a completed round")
        return student
