"""Keep a recipe running by the clock: a Prefect deployment, served until it is stopped."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from flows.diary import Diary, Entry
from flows.firing import check_name
from infra.profile import Profile
from pipeline.config import FilesData, Recipe
from pipeline.errors import BusyError, ConfigError


def check_schedule(recipe: Recipe, cron: str, timezone: str) -> None:
    """Refuse what cannot be scheduled.

    Raises:
        ConfigError: the cron expression, the time zone or the recipe's name cannot be used.
    """
    from prefect.client.schemas.schedules import CronSchedule
    from pydantic import ValidationError

    check_name(recipe)
    try:
        CronSchedule(cron=cron, timezone=timezone)
    except ValidationError as error:
        told = "; ".join(str(problem["msg"]) for problem in error.errors())
        raise ConfigError(
            f"--cron {cron!r} in time zone {timezone!r}: {told}; five fields, such as '0 2 * * *' "
            "for every night at two"
        ) from None


def serve(
    recipe: Recipe,
    profile: Profile,
    root: Path,
    *,
    cron: str,
    timezone: str,
    tell: Callable[[Entry], None],
) -> None:
    """Serve the schedule until Ctrl-C or SIGTERM; needs PREFECT_API_URL to name a live server.

    One run at a time: the runner takes one, the deployment allows one wherever it is started from,
    and a second `stepfold schedule` of the same name is refused.

    Args:
        recipe: what to run.
        profile: where to run it.
        root: where run directories go, absolute.
        cron: when.
        timezone: of the cron expression.
        tell: called with what each firing does.

    Raises:
        BusyError: this recipe is scheduled here already.
    """
    root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(root / f".schedule-{recipe.run.name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise BusyError(
            f"{recipe.run.name} is scheduled in {root} already; stop that one first"
        ) from None
    stop = threading.Event()
    follower = threading.Thread(
        target=_follow, args=(Diary(root, recipe.run.name), stop, tell), daemon=True
    )
    follower.start()
    try:
        _serve(_settled(recipe), profile, root, cron, timezone)
    finally:
        stop.set()
        follower.join()
        lock.release()


def _serve(recipe: Recipe, profile: Profile, root: Path, cron: str, timezone: str) -> None:
    from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
    from prefect.schedules import Cron
    from prefect.types.entrypoint import EntrypointType

    from flows.scheduled import scheduled_distillation

    _release_dead_firings(recipe.run.name, root)
    scheduled_distillation.serve(
        name=recipe.run.name,
        schedule=Cron(cron, timezone=timezone),
        limit=1,
        global_limit=ConcurrencyLimitConfig(
            limit=1, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE
        ),
        parameters=_parameters(recipe, profile, root),
        tags=["stepfold"],
        print_starting_message=False,
        # by name, not by file: it is found wherever the package is installed
        entrypoint_type=EntrypointType.MODULE_PATH,
    )


def _parameters(recipe: Recipe, profile: Profile, root: Path) -> dict[str, Any]:
    return {
        "recipe": recipe.model_dump(mode="json"),
        "profile": profile.model_dump(mode="json"),
        "root": str(root),
    }


def _settled(recipe: Recipe) -> Recipe:
    """The recipe with absolute paths: a firing may start anywhere."""
    update: dict[str, Any] = {}
    if isinstance(recipe.data, FilesData):
        place = str(Path(recipe.data.path).absolute())
        update["data"] = recipe.data.model_copy(update={"path": place})
    for origin in ("bundle", "pipeline"):
        given = getattr(recipe.teacher, origin)
        if given is not None:
            place = str(Path(given).absolute())
            update["teacher"] = recipe.teacher.model_copy(update={origin: place})
    return recipe.model_copy(update=update)


def _release_dead_firings(name: str, root: Path) -> None:
    """Mark firings as crashed whose process was killed together with its runner.

    Nobody else would, and they would hold the deployment's only slot for ever. Whoever holds the
    schedule's lock knows that none of them is alive.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import (
        DeploymentFilter,
        DeploymentFilterName,
        FlowFilter,
        FlowFilterName,
        FlowRunFilter,
        FlowRunFilterState,
        FlowRunFilterStateType,
    )
    from prefect.client.schemas.objects import StateType
    from prefect.states import Crashed

    alive = FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.PENDING])
    with get_client(sync_client=True) as client:
        for dead in client.read_flow_runs(
            flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=alive)),
            flow_filter=FlowFilter(name=FlowFilterName(any_=["scheduled-distillation"])),
            deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=[name])),
        ):
            if dead.parameters.get("root") != str(root):
                continue  # the same recipe, scheduled elsewhere
            message = "its process was gone when the schedule was started again"
            client.set_flow_run_state(dead.id, Crashed(message=message))


def _follow(diary: Diary, stop: threading.Event, tell: Callable[[Entry], None]) -> None:
    seen = len(diary.read())
    while True:
        ending = stop.wait(0.5)
        entries = diary.read()
        for entry in entries[seen:]:
            tell(entry)
        seen = len(entries)
        if ending:
            return
