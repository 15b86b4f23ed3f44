"""The recipe and profile stored in a run directory, and checks before a run starts in it."""

import difflib
import os
import stat
from collections.abc import Callable
from pathlib import Path

from pipeline.bundle import MANIFEST
from pipeline.config import Recipe
from pipeline.config.profile import Profile
from pipeline.documents import build, read_yaml, to_yaml
from pipeline.durable import write_durably
from pipeline.errors import ConfigError
from pipeline.ledger import check_format
from pipeline.run_dir.layout import PROFILE, RECIPE, STARTING, student_of
from pipeline.training.plan import plan_rounds


def completed_students(run_dir: Path, recipe: Recipe) -> list[Path]:
    """Return the bundles of the accepted students of the recipe's rounds, in order."""
    bundles = [run_dir / student_of(plan) for plan in plan_rounds(recipe)]
    return [bundle for bundle in bundles if (bundle / MANIFEST).is_file()]


def prepare_run_dir(recipe: Recipe, run_dir: Path, *, accept_changes: bool) -> None:
    """Check a run directory and write the resolved recipe into it.

    Args:
        recipe: recipe to run.
        run_dir: run directory; created if missing.
        accept_changes: replace a stored recipe with other values; the old one is kept as
            `recipe.<n>.yaml`.

    Raises:
        ConfigError: see `check_run_dir`; nothing was written.
    """
    check_run_dir(recipe, run_dir, accept_changes=accept_changes)
    kept = run_dir / RECIPE
    if kept.is_file():
        if read_recipe(run_dir) == recipe:
            return
        back_up(kept)
    write_durably(kept, to_yaml(recipe))


def back_up(kept: Path) -> None:
    """Copy a file that will be replaced to `<name>.<n>.yaml`, unless the last copy is equal."""
    text = kept.read_text(encoding="utf-8")
    number = sum(1 for _ in kept.parent.glob(f"{kept.stem}.*.yaml"))
    last = kept.with_name(f"{kept.stem}.{number}.yaml")
    if last.is_file() and last.read_text(encoding="utf-8") == text:
        return  # copied by a driver that was killed before it wrote the new file
    write_durably(kept.with_name(f"{kept.stem}.{number + 1}.yaml"), text)


def check_run_dir(
    recipe: Recipe,
    run_dir: Path,
    *,
    accept_changes: bool,
    effects: Callable[[], str] = lambda: "Only the stages that they affect run again.",
) -> None:
    """Check that a directory can be the run directory of a recipe; nothing is written.

    Args:
        recipe: recipe to run.
        run_dir: run directory; need not exist.
        accept_changes: whether a stored recipe may have other values.
        effects: describe which results the changed values replace, for the refusal.

    Raises:
        ConfigError: the directory is a link, read-only or owned by another user, contains other
            files, belongs to another recipe, or was started with other values and
            `accept_changes` is False.
    """
    check_location(run_dir)
    if (run_dir / RECIPE).is_file():
        _check_recipe(recipe, run_dir, effects, accept_changes=accept_changes)
    elif run_dir.is_dir():
        _check_empty(run_dir)


def read_recipe(run_dir: Path) -> Recipe:
    """Read the resolved recipe of a run directory.

    Raises:
        ConfigError: not a run directory, of another format version, or the recipe is not valid in
            this version.
    """
    path = run_dir / RECIPE
    if not path.is_file():
        raise ConfigError(
            f"{run_dir} is not a run directory: it has no {RECIPE}; check the path, or start a run "
            f"with `stepfold run RECIPE --run-dir {run_dir}`"
        )
    check_format(run_dir)
    return build(Recipe, read_yaml(path), str(path))


def recipe_diff(old: Recipe, new: Recipe) -> str:
    """Return the unified diff of two resolved recipes."""
    lines = difflib.unified_diff(
        to_yaml(old).splitlines(),
        to_yaml(new).splitlines(),
        "stored recipe",
        "new recipe",
        lineterm="",
        n=2,
    )
    return "\n".join(lines)


def check_location(run_dir: Path) -> None:
    """Check that a path is or can become a writable directory of this user.

    Raises:
        ConfigError: it is a link, a file, read-only or owned by another user.
    """
    if run_dir.is_symlink():
        raise ConfigError(
            f"{run_dir} is a symbolic link to {run_dir.readlink()}, and a link that changes would "
            "split a run over two directories; use the directory itself"
        )
    found = existing_ancestor(run_dir)
    if not found.is_dir():
        raise ConfigError(
            f"{found} is a file, so {run_dir} cannot be a directory; choose another --run-dir"
        )
    facts = found.stat()
    if found == run_dir.absolute() and facts.st_uid != os.geteuid():
        raise ConfigError(
            f"{run_dir} belongs to user {facts.st_uid}, but this process runs as user "
            f"{os.geteuid()}; choose another --run-dir"
        )
    if not (os.access(found, os.W_OK | os.X_OK) and facts.st_mode & (stat.S_IWUSR | stat.S_IWOTH)):
        raise ConfigError(f"{found} is read-only; choose another --run-dir, or make it writable")


def _check_recipe(
    recipe: Recipe, run_dir: Path, effects: Callable[[], str], *, accept_changes: bool
) -> None:
    old = read_recipe(run_dir)
    if old.run.name != recipe.run.name:
        raise ConfigError(
            f"run.name: {recipe.run.name!r}, but {run_dir} belongs to another recipe, "
            f"{old.run.name!r}; choose another --run-dir"
        )
    if old != recipe and not accept_changes:
        raise ConfigError(
            f"{run_dir} was started with other values:\n\n{recipe_diff(old, recipe)}\n\n"
            f"{effects()}\n\nUse --accept-changes to continue with the new values, or choose "
            "another --run-dir"
        )


def _check_empty(run_dir: Path) -> None:
    foreign = sorted(
        entry.name
        for entry in run_dir.iterdir()
        if not any(entry.match(pattern) for pattern in STARTING)
    )
    if foreign:
        raise ConfigError(
            f"{run_dir} is not empty and not a run directory (found {', '.join(foreign[:3])}); "
            "choose an empty or new --run-dir"
        )


def record_profile(profile: Profile, run_dir: Path) -> None:
    """Write the profile of this start; a different earlier one is kept as `profile.<n>.yaml`."""
    kept = run_dir / PROFILE
    text = to_yaml(profile)  # contains no password, see `TrackingConfig`
    if kept.is_file():
        if kept.read_text(encoding="utf-8") == text:
            return
        back_up(kept)
    write_durably(kept, text)


def recorded_profile(run_dir: Path) -> Profile:
    """Read the profile of the last start.

    Raises:
        ConfigError: no profile was recorded, or it is not valid in this version.
    """
    path = run_dir / PROFILE
    if not path.is_file():
        raise ConfigError(f"{run_dir} has no {PROFILE}; use --profile")
    return build(Profile, read_yaml(path), str(path))


def existing_ancestor(path: Path) -> Path:
    """Return the path itself if it exists, else its nearest existing parent."""
    path = path.absolute()
    return next(found for found in [path, *path.parents] if found.exists())
