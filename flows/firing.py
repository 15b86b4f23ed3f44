"""What a firing of a schedule does: resume the recipe's newest unfinished run, or begin one."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from flows.run_dir import stored
from flows.standing import is_finished
from pipeline.config import Recipe
from pipeline.errors import ConfigError
from stages.made_students import RECIPE

_STAMP = re.compile(r"-\d{8}T\d{6}Z$")
_LONGEST_NAME = 64 - len("-20260101T000000Z")


@dataclass(frozen=True)
class Firing:
    """What a firing runs.

    Attributes:
        recipe: the scheduled recipe under the name of its run.
        run_dir: where it runs.
        is_resumed: the run was begun by an earlier firing.
    """

    recipe: Recipe
    run_dir: Path
    is_resumed: bool


def decide(recipe: Recipe, root: Path, scheduled: datetime) -> Firing:
    """The run of a firing.

    A run below `root` is of this recipe if its resolved recipe is the same, its name aside: one
    that was begun with other values belongs to those values, and is left alone.

    Args:
        recipe: the scheduled recipe.
        root: where run directories lie.
        scheduled: when the firing was due; a new run is named after it.
    """
    unfinished = [
        (began, run_dir, kept)
        for run_dir, kept, began in _runs_of(recipe, root)
        if not is_finished(run_dir)
    ]
    if unfinished:
        _, run_dir, kept = max(unfinished, key=lambda run: run[0])
        return Firing(recipe=kept, run_dir=run_dir, is_resumed=True)
    name = f"{recipe.run.name}-{scheduled.astimezone(UTC):%Y%m%dT%H%M%SZ}"
    named = _named(recipe, name)
    return Firing(recipe=named, run_dir=root / name, is_resumed=False)


def check_name(recipe: Recipe) -> None:
    """Refuse a name that leaves no room for the time of a firing.

    Raises:
        ConfigError: it is too long.
    """
    if len(recipe.run.name) > _LONGEST_NAME:
        raise ConfigError(
            f"run.name: {recipe.run.name!r} is too long for a schedule, which adds the time of "
            f"each firing; use {_LONGEST_NAME} characters at most"
        )


def _runs_of(recipe: Recipe, root: Path) -> list[tuple[Path, Recipe, float]]:
    found = []
    for path in sorted(root.glob(f"*/{RECIPE}")):
        try:
            kept = stored(path.parent)
        except ConfigError:  # of another version; it cannot be resumed by this one
            continue
        base = _STAMP.sub("", kept.run.name)
        if base == recipe.run.name and _named(kept, base) == recipe:
            found.append((path.parent, kept, path.stat().st_mtime))
    return found


def _named(recipe: Recipe, name: str) -> Recipe:
    return recipe.model_copy(update={"run": recipe.run.model_copy(update={"name": name})})
