"""The run as a value that tasks and subflows take as a parameter."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from flows.tracking.outbox import Outbox
from infra.tracking import tracker_of
from pipeline.config import Recipe
from pipeline.config.profile import Profile
from pipeline.documents import Document
from pipeline.ledger import Artifact
from pipeline.run_dir.events import Events, Timing
from pipeline.tracking import RunTracker
from pipeline.training.round_plan import RoundPlan
from stages.workspace import Workspace


class Run(Document):
    """A run in progress, serializable to JSON.

    Attributes:
        recipe: resolved recipe.
        profile: compute profile.
        path: run directory, absolute.
        id: id of the run, which its directory keeps when it is moved.
        chain_id: id of its tracked run, the parent of the rounds' runs.
    """

    recipe: Recipe
    profile: Profile
    path: str
    id: str
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
