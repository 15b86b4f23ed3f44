"""Serve a recipe as a Prefect deployment with a cron schedule, until stopped."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import DeploymentFilter, FlowFilter, FlowRunFilter
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.client.schemas.schedules import CronSchedule
from prefect.schedules import Cron
from prefect.states import Crashed
from prefect.types.entrypoint import EntrypointType
from pydantic import ValidationError

from flows.scheduled_distillation import (
    HistoryEntry,
    ScheduleHistory,
    check_name,
    scheduled_distillation,
)
from pipeline.config import Recipe
from pipeline.config.profile import Profile
from pipeline.errors import BusyError, ConfigError


def check_schedule(recipe: Recipe, cron: str, timezone: str) -> None:
    """Validate the cron expression, the time zone and the recipe's name.

    Raises:
        ConfigError: one of them is not valid.
    """
    check_name(recipe)
    try:
        CronSchedule(cron=cron, timezone=timezone)
    except ValidationError as error:
        problems = "; ".join(str(problem["msg"]) for problem in error.errors())
        raise ConfigError(
            f"--cron {cron!r} in time zone {timezone!r}: {problems}; use five fields, such as "
            "'0 2 * * *' for 02:00 every day, and a time zone such as Europe/Berlin"
        ) from None


def serve(
    recipe: Recipe,
    profile: Profile,
    root: Path,
    *,
    cron: str,
    timezone: str,
    show: Callable[[HistoryEntry], None],
) -> None:
    """Serve the schedule until Ctrl-C or SIGTERM; needs PREFECT_API_URL of a running server.

    One run at a time: the runner and the deployment are limited to one, and a lock file refuses a
    second schedule of the same name and root.

    Args:
        recipe: recipe to run.
        profile: compute profile.
        root: directory of the run directories, absolute.
        cron: cron expression.
        timezone: time zone of the cron expression.
        show: called with each new entry of the schedule history.

    Raises:
        BusyError: the recipe is already scheduled in `root`.
    """
    name = recipe.run.name
    root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(root / f".schedule-{name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise BusyError(
            f"{name} is already scheduled in {root}; stop that schedule first"
        ) from None
    stop = threading.Event()
    follower = threading.Thread(
        target=_follow, args=(ScheduleHistory(root, name), stop, show), daemon=True
    )
    follower.start()
    try:
        _crash_orphans(name, root)
        one = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE)
        scheduled_distillation.serve(
            name=name,
            schedule=Cron(cron, timezone=timezone),
            limit=1,
            global_limit=one,
            parameters={
                "recipe": _with_absolute_paths(recipe).model_dump(mode="json"),
                "profile": profile.model_dump(mode="json"),
                "root": str(root),
            },
            tags=["stepfold"],
            print_starting_message=False,
            # by module, not by file: Prefect finds it wherever the package is installed
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
    finally:
        stop.set()
        follower.join()
        lock.release()


def _with_absolute_paths(recipe: Recipe) -> Recipe:
    """Resolve the recipe's paths, as a scheduled run may start in another directory."""
    update: dict[str, Any] = {}
    if recipe.data.place is not None:
        place = str(Path(recipe.data.place).absolute())
        update["data"] = recipe.data.model_copy(update={"path": place})
    for origin in ("bundle", "pipeline"):
        given = getattr(recipe.teacher, origin)
        if given is not None:
            place = str(Path(given).absolute())
            update["teacher"] = recipe.teacher.model_copy(update={origin: place})
    return recipe.model_copy(update=update)


def _crash_orphans(name: str, root: Path) -> None:
    """Mark flow runs as crashed whose process was killed together with its runner.

    They would hold the deployment's only slot forever. The lock of the schedule guarantees that
    none of them is alive.
    """
    alive = {"state": {"type": {"any_": ["RUNNING", "PENDING"]}}}

    def named(wanted: str) -> dict[str, Any]:
        return {"name": {"any_": [wanted]}}

    with get_client(sync_client=True) as client:
        for orphan in client.read_flow_runs(
            flow_run_filter=FlowRunFilter.model_validate(alive),
            flow_filter=FlowFilter.model_validate(
                {"name": {"any_": [scheduled_distillation.name]}}
            ),
            deployment_filter=DeploymentFilter.model_validate({"name": {"any_": [name]}}),
        ):
            if orphan.parameters.get("root") == str(root):  # else of another schedule
                message = "the process was killed together with its schedule"
                client.set_flow_run_state(orphan.id, Crashed(message=message))


def _follow(
    history: ScheduleHistory, stop: threading.Event, show: Callable[[HistoryEntry], None]
) -> None:
    seen = len(history.read())
    while True:
        is_last = stop.wait(0.5)
        entries = history.read()
        for entry in entries[seen:]:
            show(entry)
        seen = len(entries)
        if is_last:
            return
