"""The first part of the chain alone: data -> teacher.

A full run of the same recipe in the same directory finds both done. Run it as
`stepfold run RECIPE --teacher-only`, or as a Prefect deployment.
"""

from prefect import flow

from flows.latent_tasks import components_task, encode_task
from flows.notify import notify_failure
from flows.run import open_run, run_path
from flows.tasks import shard_task, teacher_task
from infra.profile import Profile
from pipeline.config import Recipe


@flow(
    name="train-teacher",
    flow_run_name="{recipe.run.name} teacher",
    persist_result=False,
    on_failure=[notify_failure],
    on_crashed=[notify_failure],
)
def train_teacher(
    recipe: Recipe,
    profile: Profile = Profile(),  # noqa: B008 (frozen)
    run_dir: str = "",
    *,
    accept_changes: bool = False,
) -> str:
    """Train (or take in) the guided teacher of a recipe; arguments as in `full_distillation`."""
    path = run_path(recipe, profile, run_dir)
    with open_run(recipe, profile, path, accept_changes=accept_changes) as run:
        data = shard_task(run, "shard the data")
        samples = data
        if recipe.teacher.has_components:
            components = components_task(run, "components", data)
            samples = encode_task(run, "encode the data", data, components)
        teacher_task(run, "teacher", samples)
    return str(path)
