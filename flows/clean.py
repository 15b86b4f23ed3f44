"""Take away what a run no longer needs: debris, and the targets and checkpoints of done rounds."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from flows.run_dir import stored
from pipeline.config import Recipe
from pipeline.errors import ConfigError
from pipeline.ledger import Artifact, Ledger, hold
from pipeline.training.plan import plan_rounds, plan_teacher
from pipeline.training.round_plan import RoundPlan
from pipeline.verification.strays import find_strays


@dataclass(frozen=True)
class Removed:
    """What was taken away: a description, how many, and the bytes they held."""

    what: str
    count: int
    size: int


def clean(run_dir: Path) -> list[Removed]:
    """Remove what nothing reads any more; students, teacher and report stay.

    Raises:
        ConfigError: it is no run directory.
        BusyError: a run is at work in it.
    """
    recipe = _checked(run_dir)
    with hold(run_dir):
        done = _rounds_done(recipe, run_dir)
        return [
            debris(run_dir),
            _forget_targets(run_dir, done),
            _remove(
                "checkpoints of rounds that are done",
                [run_dir / plan.folder / "checkpoints" for plan in done],
            ),
        ]


def clean_all(run_dir: Path) -> Removed:
    """Remove the whole run directory.

    Raises:
        ConfigError: it is no run directory.
        BusyError: a run is at work in it.
    """
    _checked(run_dir)
    with hold(run_dir):
        return _remove("the run", [run_dir])


def _checked(run_dir: Path) -> Recipe:
    if run_dir.is_symlink():
        raise ConfigError(f"{run_dir} is a symbolic link; name the directory itself")
    return stored(run_dir)


def _rounds_done(recipe: Recipe, run_dir: Path) -> list[RoundPlan]:
    places = {artifact.path for artifact in Ledger(run_dir).records()}
    teacher = plan_teacher(recipe)
    plans = [plan for plan in plan_rounds(recipe) if f"{plan.folder}/student" in places]
    return [*plans, *([teacher] if teacher and "teacher" in places else [])]


def debris(run_dir: Path) -> Removed:
    """Remove what interrupted work left; nobody else is at work in the run directory."""
    found = find_strays(run_dir, Ledger(run_dir).records()).debris
    return _remove("debris of interrupted work", [run_dir / place for place in found])


def _forget_targets(run_dir: Path, done: list[RoundPlan]) -> Removed:
    ledger = Ledger(run_dir)
    folders = tuple(f"{plan.folder}/targets/" for plan in done)
    superseded: list[Artifact] = [
        artifact
        for artifact in ledger.records()
        if artifact.kind == "targets" and artifact.path.startswith(folders)
    ]
    size = sum(record.size for artifact in superseded for record in artifact.files.values())
    for artifact in superseded:
        ledger.forget(artifact)
    return Removed(what="targets of rounds that are done", count=len(superseded), size=size)


def _remove(what: str, paths: list[Path]) -> Removed:
    found = [path for path in paths if path.exists() or path.is_symlink()]
    size = sum(_size(path) for path in found)
    for path in found:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    return Removed(what=what, count=len(found), size=size)


def _size(path: Path) -> int:
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.lstat().st_size for file in files if file.is_file())
