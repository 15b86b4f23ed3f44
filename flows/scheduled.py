"""The flow behind a schedule: each firing brings the recipe's newest run on, or begins the next."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect import flow, tags
from prefect.runtime import flow_run
from prefect.states import Completed

from flows.diary import Diary
from flows.events import Events
from flows.firing import decide
from flows.full_distillation import full_distillation
from infra.profile import Profile
from pipeline.config import Recipe
from pipeline.errors import BusyError
from pipeline.identity import identify


@flow(name="scheduled-distillation", flow_run_name="{recipe.run.name}", persist_result=False)
def scheduled_distillation(
    recipe: Recipe,
    profile: Profile = Profile(),  # noqa: B008 (frozen)
    root: str = "",
) -> Any:
    """Resume the newest unfinished run of the recipe, else start `<name>-<scheduled time>`.

    A firing that came due while a run was at work is skipped: its work was being done.

    Args:
        recipe: what to run; its name is the base of the runs' names.
        profile: where to run it.
        root: where run directories lie; the profile's `storage.root` if empty.

    Returns:
        The run directory, or a state that says why nothing was done.
    """
    place = Path(root or profile.storage.root).absolute()
    due = flow_run.get_scheduled_start_time() or datetime.now(UTC)
    diary = Diary(place, recipe.run.name)
    if due.timestamp() < diary.last_end():
        return _skipped(diary, due, "it came due while a run was at work")
    firing = decide(recipe, place, due)
    diary.write("resumed" if firing.is_resumed else "started", firing.run_dir)
    try:
        with tags(identify().tag):
            full_distillation(firing.recipe, profile, run_dir=str(firing.run_dir))
    except BusyError as error:
        return _skipped(diary, due, str(error))
    except Exception as error:
        if firing.run_dir.is_dir():
            Events(firing.run_dir).emit("run_failed", message=str(error))
        diary.write("failed", firing.run_dir, str(error))
        raise
    except BaseException:  # Ctrl-C, cancelled, terminated
        diary.write("stopped", firing.run_dir)
        raise
    diary.write("done", firing.run_dir)
    return str(firing.run_dir)


def _skipped(diary: Diary, due: datetime, reason: str) -> Any:
    message = f"the firing of {due:%Y-%m-%d %H:%M:%S} UTC was skipped: {reason}"
    diary.write("skipped", None, message)
    return Completed(name="Skipped", message=message)
