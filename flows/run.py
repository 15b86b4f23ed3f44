"""One run as tasks and subflows see it: typed, JSON-able, and enough to find everything else."""

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from flows.events import Events
from flows.home_profile import record_profile
from flows.orphans import bury
from flows.owed import Owed
from flows.prefect_pages import flow_run_marks
from flows.run_dir import check, prepare
from flows.timing import Timing
from infra.environment import keep_private
from infra.machines import record_machine, this_machine
from infra.mlflow_store import MlflowStore, Status
from infra.profile import Profile
from infra.ray_cluster import cluster
from pipeline.config import Recipe
from pipeline.documents import Document
from pipeline.ledger import hold
from pipeline.training.plan import plan_rounds


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


@contextmanager
def open_run(
    recipe: Recipe, profile: Profile, path: Path, *, accept_changes: bool
) -> Iterator[Run]:
    """Begin or resume a run: check the directory, be alone in it, track it, have a cluster.

    The MLflow run ends FINISHED, FAILED or KILLED as the block does.
    """
    keep_private()
    check(recipe, path, accept_changes=accept_changes)  # leaves nothing behind if it refuses
    with hold(path):
        prepare(recipe, path, accept_changes=accept_changes)
        record_profile(profile, path)
        bury(path)
        run = Run(
            recipe=recipe,
            profile=profile,
            path=str(path),
            chain_id=_chain_id(recipe, profile, path),
        )
        status: Status = "FAILED"
        try:
            with cluster(profile, path / "logs"):
                record_machine(this_machine(profile.compute), path)
                yield run
            status = "FINISHED"
        except KeyboardInterrupt:
            status = "KILLED"
            raise
        finally:
            with run.owed.telling("how the run ended"):
                run.store.finish(run.chain_id, status)


def _chain_id(recipe: Recipe, profile: Profile, path: Path) -> str:
    return open_store(profile, path).chain(
        key=str(path),
        name=recipe.run.name,
        params={
            "steps": " -> ".join(str(count) for count in recipe.halving.steps),
            "family": recipe.teacher.network.family,
            "schedule": recipe.teacher.schedule.kind,
            "w_min": recipe.guidance.w.min,
            "w_max": recipe.guidance.w.max,
            "seed": recipe.run.seed,
            "data": recipe.data.source,
            "teacher": _origin_of_teacher(recipe),
            "rounds": len(plan_rounds(recipe)),
            "student_steps": recipe.halving.steps[-1],
            "updates": sum(plan.training.updates for plan in plan_rounds(recipe)),
            "precision": profile.engine.precision,
            "workers": profile.compute.workers,
        },
        tags={"run_dir": str(path), "host": platform.node(), **flow_run_marks()},
    )


def _origin_of_teacher(recipe: Recipe) -> str:
    teacher = recipe.teacher
    if teacher.train is not None:
        return "trained here"
    return teacher.pipeline or teacher.bundle or "closed form"
