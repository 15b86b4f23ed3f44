"""One run as tasks and subflows see it: typed, JSON-able, and enough to find everything else."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from flows.tracking.outbox import Owed
from infra.mlflow.store import MlflowStore
from pipeline.config import Recipe
from pipeline.config.profile import Profile
from pipeline.documents import Document
from pipeline.ledger import Artifact
from pipeline.run_dir.events import Events, Timing
from pipeline.training.round_plan import RoundPlan


class Run(Document):
    """A run in progress.

    Attributes:
        recipe: what to run.
        profile: where to run it.
        path: the run directory, absolute.
        chain_id: its MLflow run, the parent of the rounds' runs.
    """

    recipe: Recipe
    profile: Profile
    path: str
    chain_id: str

    @property
    def run_dir(self) -> Path:
        """The run directory."""
        return Path(self.path)

    @cached_property
    def events(self) -> Events:
        """What the progress display follows."""
        return Events(self.run_dir)

    @cached_property
    def timing(self) -> Timing:
        """Seconds per stage."""
        return Timing(self.run_dir)

    @cached_property
    def owed(self) -> Owed:
        """What MLflow is still to be told."""
        return Owed(self.run_dir)

    @cached_property
    def store(self) -> MlflowStore:
        """Where the run is tracked."""
        return open_store(self.profile, self.run_dir)


def open_store(profile: Profile, run_dir: Path) -> MlflowStore:
    """The MLflow store of a profile; by default one SQLite file beside the run directories."""
    return MlflowStore(profile.tracking.address, run_dir.parent, profile.tracking.experiment)


def run_path(recipe: Recipe, profile: Profile, run_dir: str) -> Path:
    """The run directory asked for, or the recipe's own below the storage root; absolute."""
    return (Path(run_dir) if run_dir else Path(profile.storage.root) / recipe.run.name).absolute()


Attempt = tuple[RoundPlan, Artifact | None]
"""A round as it was tried, and its student; None where training broke off."""


@dataclass(frozen=True)
class MadeRound:
    """A round whose student may teach.

    Attributes:
        plan: the round as it is in the recipe.
        attempts: what was tried, in order; the last is the one whose student was let through.
            Without a gate there is one, and it is the plan.
    """

    plan: RoundPlan
    attempts: tuple[Attempt, ...]

    @property
    def accepted(self) -> RoundPlan:
        """The attempt that made the student; numbers of the student belong to it."""
        return self.attempts[-1][0]

    @property
    def student(self) -> Artifact:
        """The student of the round."""
        student = self.attempts[-1][1]
        if student is None:
            raise TypeError(f"{self.plan.title}: a round without a student is not done")
        return student
