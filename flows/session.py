"""The session of a run: lock its directory, start its cluster, and record its final status."""

import logging
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.orchestration.cleanup import remove_leftovers
from flows.orchestration.server import flow_run_tags
from flows.run import Run
from infra.process.environment import set_private_umask
from infra.process.machines import record_machine, this_machine
from infra.ray.cluster import cluster
from infra.tracking import tracker_of
from pipeline.config import Recipe
from pipeline.config.profile import Profile
from pipeline.ledger import lock_run_dir
from pipeline.run_dir.layout import RunDir
from pipeline.run_dir.recipe_file import prepare_run_dir, record_profile
from pipeline.run_dir.run_id import claim_id
from pipeline.tracking import RunStatus
from pipeline.training.plan import plan_rounds
from stages.plan.changes import check_changes, recomputed_stages
from stages.plan.disk import check_disk

_log = logging.getLogger(__name__)


@contextmanager
def open_run(
    recipe: Recipe, profile: Profile, path: Path, *, accept_changes: bool
) -> Iterator[Run]:
    """Start or resume a run: check and lock its directory, open its tracked run, start its cluster.

    When the block ends, the tracked run gets the status FINISHED, FAILED or KILLED.
    """
    set_private_umask()
    # before the lock, which creates the directory
    check_changes(recipe, profile, path, accept_changes=accept_changes)
    check_disk(recipe, path)
    with lock_run_dir(path):
        for each in recomputed_stages(recipe, profile, path):
            _log.warning("changed values: recomputed %s", each.text)
        prepare_run_dir(recipe, path, accept_changes=accept_changes)
        record_profile(profile, path)
        remove_leftovers(path)
        run_id = claim_id(path)
        run = Run(
            recipe=recipe,
            profile=profile,
            path=str(path),
            id=run_id,
            chain_id=_chain_id(recipe, profile, path, run_id),
        )
        status: RunStatus = "FAILED"
        try:
            with cluster(profile, RunDir(path).logs):
                record_machine(this_machine(profile.compute), path)
                yield run
            status = "FINISHED"
        except KeyboardInterrupt:
            status = "KILLED"
            raise
        finally:
            with run.outbox.delivering("end of the run"):
                run.tracker.finish(run.chain_id, status)


def _chain_id(recipe: Recipe, profile: Profile, path: Path, run_id: str) -> str:
    return tracker_of(profile.tracking, path.parent).start(
        key=run_id,
        name=recipe.run.name,
        params={
            "steps": " -> ".join(str(count) for count in recipe.step_counts),
            "family": recipe.teacher.network.family,
            "schedule": recipe.teacher.schedule.kind,
            "w_min": recipe.w.min,
            "w_max": recipe.w.max,
            "seed": recipe.run.seed,
            "data": recipe.data.source,
            "teacher": _teacher_origin(recipe),
            "rounds": len(plan_rounds(recipe)),
            "student_steps": recipe.step_counts[-1],
            "updates": sum(plan.training.updates for plan in plan_rounds(recipe)),
            "precision": profile.engine.precision,
            "workers": profile.compute.workers,
        },
        tags={"run_dir": str(path), "host": platform.node(), **flow_run_tags()},
    )


def _teacher_origin(recipe: Recipe) -> str:
    teacher = recipe.teacher
    if teacher.train is not None:
        return "trained in this run"
    return teacher.pipeline or teacher.bundle or "closed form"
