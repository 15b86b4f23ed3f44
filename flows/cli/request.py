"""From the arguments of a command to checked values: recipe, profile, run directory.

Recipe and profile have no key in common, so one `--set` serves both.
"""

import difflib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.cli.init import check_filled_in
from pipeline.config import Recipe
from pipeline.config.profile import Profile, default_profile
from pipeline.documents import apply_override, build, read_yaml
from pipeline.errors import ConfigError
from pipeline.models.directory.pipeline_directory import read_pipeline
from pipeline.models.directory.pipeline_files import locate_pipeline
from pipeline.run_dir.run_status import require_run

_OVERRIDABLE = "teacher.network.w_embedding_dim"  # of the student; the teacher has none


@dataclass(frozen=True)
class Request:
    """The validated arguments of `stepfold run` and related commands.

    Attributes:
        recipe: the recipe, resolved.
        profile: the profile.
        run_dir: the run directory, absolute.
        command: the shell command that resumes the run.
    """

    recipe: Recipe
    profile: Profile
    run_dir: Path
    command: str


def read_request(
    recipe_path: Path, profile_path: Path | None, run_dir: Path | None, overrides: Sequence[str]
) -> Request:
    """Read and validate the recipe and the profile of a command.

    Args:
        recipe_path: the recipe.
        profile_path: the profile; the installed laptop profile if None.
        run_dir: the run directory; `<storage.root>/<run.name>` if None.
        overrides: assignments `a.b=c` to keys of either.

    Raises:
        ConfigError: naming file and key of everything that is wrong.
        BundleError: `teacher.pipeline` is not a usable pipeline.
    """
    recipe_tree = read_yaml(recipe_path)
    profile_tree = read_yaml(profile_path or default_profile())
    for assignment in overrides:
        apply_override(_owner(assignment, recipe_tree, profile_tree), assignment)
    check_filled_in(recipe_tree, str(recipe_path))
    _describe_teacher(recipe_tree, str(recipe_path))
    recipe = build(Recipe, recipe_tree, str(recipe_path))
    profile = build(Profile, profile_tree, str(profile_path or default_profile().name))
    place = run_dir or Path(profile.storage.root) / recipe.run.name
    return Request(
        recipe=recipe,
        profile=profile,
        run_dir=place.absolute(),
        command=_command(recipe_path, profile_path, run_dir, overrides),
    )


def read_profile(path: Path | None) -> Profile:
    """Read and validate a profile; the installed laptop profile if None.

    Raises:
        ConfigError: naming file and key of everything that is wrong.
    """
    path = path or default_profile()
    return build(Profile, read_yaml(path), str(path))


def runs_root(profile: Path | None) -> Path:
    """Return the directory that holds the run directories of a profile, absolute.

    Args:
        profile: the profile; the installed laptop profile if None.

    Raises:
        ConfigError: the profile is not valid.
    """
    return Path(read_profile(profile).storage.root).absolute()


def find_run(run_dir: Path | None, profile: Path | None) -> Path:
    """Return the given run directory, or the newest run of a profile; absolute.

    Raises:
        ConfigError: not a run directory, or the profile has no run.
    """
    return require_run(run_dir, Path() if run_dir else runs_root(profile))


def _owner(
    assignment: str, recipe_tree: dict[str, Any], profile_tree: dict[str, Any]
) -> dict[str, Any]:
    key = assignment.partition("=")[0].split(".")[0].strip()
    if key in Recipe.model_fields:
        return recipe_tree
    if key in Profile.model_fields:
        return profile_tree
    known = [*Recipe.model_fields, *Profile.model_fields]
    close = difflib.get_close_matches(key, known, n=1)
    advice = f"did you mean {close[0]!r}?" if close else f"use one of {', '.join(known)}"
    raise ConfigError(
        f"--set {assignment}: {key!r} is a key of neither recipe nor profile; {advice}"
    )


def _describe_teacher(recipe_tree: dict[str, Any], source: str) -> None:
    """Complete `teacher` with network, schedule and prediction of its pipeline directory."""
    teacher = recipe_tree.get("teacher")
    given = teacher.get("pipeline") if isinstance(teacher, dict) else None
    if not isinstance(teacher, dict) or not isinstance(given, str):
        return
    directory = locate_pipeline(given).expanduser()
    info = read_pipeline(directory)
    teacher["pipeline"] = str(directory.resolve())
    found = info.model_dump(mode="json", include={"network", "schedule", "prediction"})
    for key, value in found.items():
        teacher[key] = _merged(teacher.get(key), value, f"{source}: teacher.{key}", given)


def _merged(written: Any, found: Any, key: str, pipeline: str) -> Any:
    """Return the pipeline's value, with the keys that the recipe adds.

    Args:
        written: the value in the recipe.
        found: the value in the pipeline directory.
        key: the key, for errors.
        pipeline: the directory, for errors.
    """
    if written is None:
        return found
    if isinstance(found, dict) and isinstance(written, dict):
        common = found.keys() & written.keys()
        added = {name: value for name, value in written.items() if name not in common}
        both = {
            name: _merged(written[name], found[name], f"{key}.{name}", pipeline) for name in common
        }
        return found | added | both
    if written != found and not key.endswith(_OVERRIDABLE):
        raise ConfigError(
            f"{key}: {written!r} in the recipe, {found!r} in the pipeline {pipeline}; remove the "
            "key from the recipe"
        )
    return written


def _command(
    recipe: Path, profile: Path | None, run_dir: Path | None, overrides: Sequence[str]
) -> str:
    words = ["stepfold", "run", str(recipe)]
    words += ["--profile", str(profile)] if profile else []
    words += ["--run-dir", str(run_dir)] if run_dir else []
    for assignment in overrides:
        words += ["--set", assignment]
    return shlex.join(words)
