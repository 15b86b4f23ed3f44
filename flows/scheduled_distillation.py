"""The scheduled flow: resume the newest unfinished run of a recipe, or start the next one."""

import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from prefect import flow, tags
from prefect.runtime import flow_run
from prefect.states import Completed
from pydantic import ValidationError

from flows.full_distillation import full_distillation
from pipeline.config import Recipe
from pipeline.config.profile import Profile
from pipeline.documents import Document
from pipeline.errors import BusyError, ConfigError
from pipeline.identity import identify
from pipeline.run_dir.events import Events
from pipeline.run_dir.layout import RECIPE
from pipeline.run_dir.recipe_file import read_recipe
from pipeline.run_dir.run_status import is_finished

_STAMP = re.compile(r"-\d{8}T\d{6}Z$")
_MAX_NAME_LENGTH = 64 - len("-20260101T000000Z")

Outcome = Literal["started", "resumed", "done", "failed", "stopped", "skipped"]


@flow(name="scheduled-distillation", flow_run_name="{recipe.run.name}", persist_result=False)
def scheduled_distillation(
    recipe: Recipe,
    profile: Profile = Profile(),  # noqa: B008 (frozen)
    root: str = "",
) -> Any:
    """Resume the newest unfinished run of the recipe, or start `<name>-<scheduled time>`.

    Skipped if it was due while another scheduled run was active; that run replaces it.

    Args:
        recipe: recipe to run; its name is the prefix of the runs' names.
        profile: compute profile.
        root: directory of the run directories; the profile's `storage.root` if empty.

    Returns:
        The run directory, or a Prefect state with the reason for skipping.
    """
    place = Path(root or profile.storage.root).absolute()
    due = flow_run.get_scheduled_start_time() or datetime.now(UTC)
    history = ScheduleHistory(place, recipe.run.name)
    if due.timestamp() < history.last_end():
        return _skipped(history, due, "another scheduled run was active at that time")
    run = select_run(recipe, place, due)
    history.append("resumed" if run.is_resumed else "started", run.run_dir)
    try:
        with tags(identify().tag):
            full_distillation(run.recipe, profile, run_dir=str(run.run_dir))
    except BusyError as error:
        return _skipped(history, due, str(error))
    except Exception as error:
        if run.run_dir.is_dir():
            Events(run.run_dir).emit("run_failed", message=str(error))
        history.append("failed", run.run_dir, str(error))
        raise
    except BaseException:  # Ctrl-C, cancelled, terminated
        history.append("stopped", run.run_dir)
        raise
    history.append("done", run.run_dir)
    return str(run.run_dir)


# a deployment records it as its module: Prefect imports that with the working directory in front
scheduled_distillation.__module__ = "stepfold_start"


def _skipped(history: "ScheduleHistory", due: datetime, reason: str) -> Any:
    message = f"skipped the run scheduled for {due:%Y-%m-%d %H:%M:%S} UTC: {reason}"
    history.append("skipped", None, message)
    return Completed(name="Skipped", message=message)


@dataclass(frozen=True)
class SelectedRun:
    """The run that a scheduled flow run works on.

    Attributes:
        recipe: the scheduled recipe, with the name of the run.
        run_dir: run directory.
        is_resumed: the run was started earlier.
    """

    recipe: Recipe
    run_dir: Path
    is_resumed: bool


def select_run(recipe: Recipe, root: Path, due: datetime) -> SelectedRun:
    """Select the newest unfinished run of a recipe below `root`, or name a new run.

    Runs started with other values of the recipe, apart from its name, are ignored.

    Args:
        recipe: the scheduled recipe.
        root: directory of the run directories.
        due: scheduled time; a new run is named after it.
    """
    unfinished = [run for run in _runs_of(recipe, root) if not is_finished(run.run_dir)]
    if unfinished:
        return max(unfinished, key=lambda run: (run.run_dir / RECIPE).stat().st_mtime)
    name = f"{recipe.run.name}-{due.astimezone(UTC):%Y%m%dT%H%M%SZ}"
    return SelectedRun(_renamed(recipe, name), root / name, is_resumed=False)


def check_name(recipe: Recipe) -> None:
    """Check that the scheduled time can be appended to the recipe's name.

    Raises:
        ConfigError: the name is too long.
    """
    if len(recipe.run.name) > _MAX_NAME_LENGTH:
        raise ConfigError(
            f"run.name: {recipe.run.name!r} is too long to append the scheduled time; use at most "
            f"{_MAX_NAME_LENGTH} characters"
        )


def _runs_of(recipe: Recipe, root: Path) -> list[SelectedRun]:
    found = []
    for path in sorted(root.glob(f"*/{RECIPE}")):
        try:
            kept = read_recipe(path.parent)
        except ConfigError:  # written by another version, which this one cannot resume
            continue
        base = _STAMP.sub("", kept.run.name)
        if base == recipe.run.name and _renamed(kept, base) == recipe:
            found.append(SelectedRun(kept, path.parent, is_resumed=True))
    return found


def _renamed(recipe: Recipe, name: str) -> Recipe:
    return recipe.model_copy(update={"run": recipe.run.model_copy(update={"name": name})})


class HistoryEntry(Document):
    """One line of a schedule history.

    Attributes:
        time: seconds since the epoch.
        outcome: outcome of the scheduled flow run.
        run_dir: run directory; empty if skipped.
        message: reason of a failure or a skip.
    """

    time: float
    outcome: Outcome
    run_dir: str = ""
    message: str = ""


class ScheduleHistory:
    """The schedule history: `schedule-<name>.jsonl` beside the run directories."""

    def __init__(self, root: Path, name: str) -> None:
        self.path = root / f"schedule-{name}.jsonl"

    def append(self, outcome: Outcome, run_dir: Path | None, message: str = "") -> None:
        """Append an entry."""
        entry = HistoryEntry(
            time=time.time(), outcome=outcome, run_dir=str(run_dir or ""), message=message.strip()
        )
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(entry.model_dump_json(exclude_defaults=True) + "\n")

    def read(self) -> list[HistoryEntry]:
        """Load all complete entries; a damaged line is skipped."""
        if not self.path.is_file():
            return []
        entries = []
        for line in self.path.read_text(encoding="utf-8").split("\n")[:-1]:
            try:
                entries.append(HistoryEntry.model_validate_json(line))
            except ValidationError:
                continue
        return entries

    def last_end(self) -> float:
        """The time at which the last run ended, in seconds since the epoch; 0 if none did."""
        ends = ("done", "failed", "stopped")
        return max((each.time for each in self.read() if each.outcome in ends), default=0.0)
