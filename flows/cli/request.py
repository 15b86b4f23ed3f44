"""Read and validate what a command works on: recipe, profile and run directory.

Recipe and profile have no section in common, so `--set` applies to either.
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
from pipeline.models.directory.hub import locate_pipeline
from pipeline.models.directory.pipeline_directory import read_pipeline

_FREE = "teacher.network.w_embedding_dim"  # belongs to the student, not to the pipeline


@dataclass(frozen=True)
class Request:
    """Validated arguments of a command.

    Attributes:
        recipe: the recipe.
        profile: the profile.
        run_dir: absolute path of the run directory.
        command: shell command that starts the same run.
    """

    recipe: Recipe
    profile: Profile
    run_dir: Path
    command: str


def read_request(
    recipe_path: Path, profile_path: Path | None, run_dir: Path | None, overrides: Sequence[str]
) -> Request:
    """Read and validate recipe and profile.

    Args:
        recipe_path: the recipe.
        profile_path: the profile; None for the packaged laptop profile.
        run_dir: the run directory; None for `<storage.root>/<run.name>`.
        overrides: assignments `a.b=c` to keys of recipe or profile.

    Raises:
        ConfigError: a key or value is invalid; the message names file and key.
        BundleError: `teacher.pipeline` is not a supported pipeline.
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
        f"--set {assignment}: unknown section {key!r} in recipe and profile; {advice}"
    )


def _describe_teacher(recipe_tree: dict[str, Any], source: str) -> None:
    """Copy network, schedule and prediction of a pipeline directory into `teacher`."""
    teacher = recipe_tree.get("teacher")
    given = teacher.get("pipeline") if isinstance(teacher, dict) else None
    if not isinstance(teacher, dict) or not isinstance(given, str):
        return
    directory = locate_pipeline(given).expanduser()
    info = read_pipeline(directory)
    teacher["pipeline"] = str(directory.resolve())
    says = info.model_dump(mode="json", include={"network", "schedule", "prediction"})
    for key, value in says.items():
        teacher[key] = _merged(teacher.get(key), value, f"{source}: teacher.{key}", given)


def _merged(asked: Any, holds: Any, key: str, pipeline: str) -> Any:
    """Merge values of the pipeline with those of the recipe, which may only add keys."""
    if asked is None:
        return holds
    if isinstance(holds, dict) and isinstance(asked, dict):
        common = holds.keys() & asked.keys()
        added = {name: value for name, value in asked.items() if name not in common}
        both = {
            name: _merged(asked[name], holds[name], f"{key}.{name}", pipeline) for name in common
        }
        return holds | added | both
    if asked != holds and not key.endswith(_FREE):
        raise ConfigError(
            f"{key}: {asked!r} in the recipe contradicts {holds!r} of the pipeline in {pipeline}; "
            "remove the key from the recipe"
        )
    return asked


def _command(
    recipe: Path, profile: Path | None, run_dir: Path | None, overrides: Sequence[str]
) -> str:
    words = ["stepfold", "run", str(recipe)]
    words += ["--profile", str(profile)] if profile else []
    words += ["--run-dir", str(run_dir)] if run_dir else []
    for assignment in overrides:
        words += ["--set", assignment]
    return shlex.join(words)
