"""Open a run: lock its directory, start its cluster, and record how it ends."""

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.orchestration.cleanup import bury
from flows.orchestration.prefect_links import flow_run_marks
from flows.run import Run, open_store
from infra.mlflow.store import Status
from infra.process.environment import keep_private
from infra.process.machines import record_machine, this_machine
from infra.ray.cluster import cluster
from pipeline.config import Recipe
from pipeline.config.profile import Profile
from pipeline.ledger import hold
from pipeline.run_dir.recipe_file import check, prepare, record_profile
from pipeline.training.plan import plan_rounds
from stages.plan.disk import check_disk


@contextmanager
def open_run(
    recipe: Recipe, profile: Profile, path: Path, *, accept_changes: bool
) -> Iterator[Run]:
    """Begin or resume a run: check the directory, be alone in it, track it, have a cluster.

    The MLflow run ends FINISHED, FAILED or KILLED as the block does.
    """
    keep_private()
    check(recipe, path, accept_changes=accept_changes)  # leaves nothing behind if it refuses
    check_disk(recipe, path)
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
