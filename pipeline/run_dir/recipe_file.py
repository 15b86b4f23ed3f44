"""The students that a run has by its recipe: none that failed, none of an earlier recipe."""

import difflib
import os
import stat
from pathlib import Path

from pipeline.bundle import MANIFEST
from pipeline.config import Recipe
from pipeline.config.profile import Profile
from pipeline.documents import build, read_yaml, to_yaml
from pipeline.durable import write_durably
from pipeline.errors import ConfigError
from pipeline.ledger import check_format
from pipeline.training.plan import plan_rounds

RECIPE = "recipe.yaml"


def recipe_of(run_dir: Path) -> Recipe:
    """The recipe a run directory was last worked on with.

    Raises:
        ConfigError: the run directory is of another format, or this version cannot read its recipe.
    """
    check_format(run_dir)
    return build(Recipe, read_yaml(run_dir / RECIPE), str(run_dir / RECIPE))


def students_of(run_dir: Path, recipe: Recipe) -> list[Path]:
    """The bundles of the recipe's rounds that are done, in order."""
    places = [run_dir / plan.folder / "student" for plan in plan_rounds(recipe)]
    return [place for place in places if (place / MANIFEST).is_file()]


# what may lie in a directory whose run was stopped before its recipe was written, or while it was
_HARMLESS = (".lock", ".lock-holder.json", "logs", "events.jsonl", f".{RECIPE}.*.tmp")


def prepare(recipe: Recipe, run_dir: Path, *, accept_changes: bool) -> None:
    """Make the run directory the home of this recipe, or refuse it untouched.

    Args:
        recipe: what is about to run.
        run_dir: its directory; made if missing.
        accept_changes: let a recipe with other values take over; the old one is kept beside it as
            `recipe.<n>.yaml`.

    Raises:
        ConfigError: see `check`.
    """
    check(recipe, run_dir, accept_changes=accept_changes)
    kept = run_dir / RECIPE
    if kept.is_file():
        if stored(run_dir) == recipe:
            return
        keep_aside(kept)
    write_durably(kept, to_yaml(recipe))


def keep_aside(kept: Path) -> None:
    """Keep a file that is about to be replaced as `<name>.<n>.yaml`, once."""
    text = kept.read_text(encoding="utf-8")
    number = sum(1 for _ in kept.parent.glob(f"{kept.stem}.*.yaml"))
    last = kept.with_name(f"{kept.stem}.{number}.yaml")
    if last.is_file() and last.read_text(encoding="utf-8") == text:
        return  # by an attempt that was killed before it wrote the new one
    write_durably(kept.with_name(f"{kept.stem}.{number + 1}.yaml"), text)


def check(recipe: Recipe, run_dir: Path, *, accept_changes: bool) -> None:
    """Refuse a directory that cannot be this run's; nothing is written.

    Raises:
        ConfigError: the directory is a link, somebody else's, read-only, holds other things,
            belongs to another recipe, or was started with other values and `accept_changes` is
            off.
    """
    check_place(run_dir)
    if (run_dir / RECIPE).is_file():
        _check_recipe(recipe, run_dir, accept_changes=accept_changes)
    elif run_dir.is_dir():
        _check_empty(run_dir)


def stored(run_dir: Path) -> Recipe:
    """The resolved recipe a run directory was started with.

    Raises:
        ConfigError: there is none, it is of another format, or this version cannot read it.
    """
    path = run_dir / RECIPE
    if not path.is_file():
        raise ConfigError(
            f"{run_dir} is no run directory: it has no {RECIPE}; check the path, or start one with "
            f"stepfold run RECIPE --run-dir {run_dir}"
        )
    return recipe_of(run_dir)


def changes(old: Recipe, new: Recipe) -> str:
    """What differs between two recipes, as a unified diff of their resolved forms."""
    lines = difflib.unified_diff(
        to_yaml(old).splitlines(),
        to_yaml(new).splitlines(),
        "the recipe this run was started with",
        "the recipe given now",
        lineterm="",
        n=2,
    )
    return "\n".join(lines)


def check_place(run_dir: Path) -> None:
    """Refuse a directory that cannot be worked in, whatever is in it.

    Raises:
        ConfigError: it is a link, a file, somebody else's, or read-only.
    """
    if run_dir.is_symlink():
        raise ConfigError(
            f"{run_dir} is a symbolic link to {run_dir.readlink()}; give the directory itself, so "
            "that a moved link cannot send half a run elsewhere"
        )
    found = existing_ancestor(run_dir)
    if not found.is_dir():
        raise ConfigError(f"{found} is a file, so {run_dir} cannot be a directory; choose another")
    facts = found.stat()
    if found == run_dir.absolute() and facts.st_uid != os.geteuid():
        raise ConfigError(
            f"{run_dir} belongs to user {facts.st_uid}, you are user {os.geteuid()}; choose "
            "another --run-dir"
        )
    if not (os.access(found, os.W_OK | os.X_OK) and facts.st_mode & (stat.S_IWUSR | stat.S_IWOTH)):
        raise ConfigError(f"{found} is read-only; choose another --run-dir, or make it writable")


def _check_recipe(recipe: Recipe, run_dir: Path, *, accept_changes: bool) -> None:
    old = stored(run_dir)
    if old.run.name != recipe.run.name:
        raise ConfigError(
            f"{run_dir} belongs to another recipe, {old.run.name!r}; this one is "
            f"{recipe.run.name!r}. Choose another --run-dir"
        )
    if old != recipe and not accept_changes:
        raise ConfigError(
            f"{run_dir} was started with other values:\n\n{changes(old, recipe)}\n\n"
            "Run again with --accept-changes to go on with the new ones (what they do not touch is "
            "kept, the rest is redone), or choose another --run-dir"
        )


def _check_empty(run_dir: Path) -> None:
    foreign = sorted(
        entry.name
        for entry in run_dir.iterdir()
        if not any(entry.match(pattern) for pattern in _HARMLESS)
    )
    if foreign:
        raise ConfigError(
            f"{run_dir} holds other things ({', '.join(foreign[:3])}) and no run; choose an empty "
            "or a new --run-dir"
        )


PROFILE = "profile.yaml"


def record_profile(profile: Profile, run_dir: Path) -> None:
    """Keep the profile of a start, and the one before as `profile.<n>.yaml` if it was another."""
    kept = run_dir / PROFILE
    text = to_yaml(profile)  # which holds no password, see `TrackingConfig`
    if kept.is_file():
        if kept.read_text(encoding="utf-8") == text:
            return
        keep_aside(kept)
    write_durably(kept, text)


def recorded_profile(run_dir: Path) -> Profile:
    """The profile of the newest start.

    Raises:
        ConfigError: none was recorded, or this version cannot read it.
    """
    path = run_dir / PROFILE
    if not path.is_file():
        raise ConfigError(f"{run_dir} has no {PROFILE}; give --profile")
    return build(Profile, read_yaml(path), str(path))


def existing_ancestor(path: Path) -> Path:
    """The path itself if it exists, else the nearest directory above it that does."""
    path = path.absolute()
    return next(found for found in [path, *path.parents] if found.exists())
