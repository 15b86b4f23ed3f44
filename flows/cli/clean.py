"""Take away what a run no longer needs: debris, and the targets and checkpoints of done rounds."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from flows.orchestration.cleanup import bury, crash_dead_flow_runs
from flows.run import open_store
from infra.mlflow.pages import default_uri
from pipeline.config import Recipe
from pipeline.config.profile import Profile
from pipeline.errors import BusyError, ConfigError, InfraError
from pipeline.ledger import Artifact, Ledger, hold
from pipeline.run_dir.recipe_file import PROFILE, RECIPE, check_place, recorded_profile, stored
from pipeline.run_dir.run_status import require_run
from pipeline.training.plan import plan_rounds, plan_teacher
from pipeline.training.round_plan import RoundPlan
from pipeline.verification.strays import find_strays
from pipeline.wording import near, readable


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


@dataclass(frozen=True)
class Reaped:
    """What was done about one run.

    Attributes:
        run_dir: the run.
        done: what was ended, marked and removed, in words.
        left: why something was left as it is.
    """

    run_dir: Path
    done: tuple[str, ...]
    left: tuple[str, ...] = ()


def reap(run_dir: Path | None) -> list[Reaped]:
    """Clear up one run, or every run below `runs/` that nobody is at work in.

    Raises:
        ConfigError: it is no run directory, or cannot be worked in.
        BusyError: a run is at work in the one that was named.
    """
    if run_dir is not None:
        return [_reap(require_run(run_dir, Path("runs")))]
    found = []
    for recipe in sorted(Path("runs").absolute().glob(f"*/{RECIPE}")):
        try:
            found.append(_reap(require_run(recipe.parent, Path("runs"))))
        except (BusyError, ConfigError) as error:
            found.append(Reaped(recipe.parent, (), (str(error),)))
    return found


def _reap(place: Path) -> Reaped:
    done: list[str] = []
    left: list[str] = []
    check_place(place)
    with hold(place):
        done += bury(place)
        removed = debris(place)
        if removed.count:
            done.append(f"{removed.count} pieces of debris removed ({readable(removed.size)})")
        for mark in (_end_tracked, _crash_flows):
            _try(mark, place, done, left)
    return Reaped(place, tuple(done), tuple(left))


def _try(mark: Callable[[Path], str], place: Path, done: list[str], left: list[str]) -> None:
    """A dead service is no reason not to go on."""
    try:
        told = mark(place)
    except (InfraError, ConfigError) as error:
        left.append(str(error))
    else:
        done += [told] if told else []


def _end_tracked(place: Path) -> str:
    profile = recorded_profile(place) if (place / PROFILE).is_file() else Profile()
    local = Path(default_uri(place.parent).removeprefix("sqlite:///"))
    if profile.tracking.uri is None and not local.is_file():
        return ""
    count = open_store(profile, place).end_abandoned(str(place))
    return f"{count} MLflow runs marked as killed" if count else ""


def _crash_flows(place: Path) -> str:
    count = crash_dead_flow_runs(place)
    return f"{count} flow runs marked as crashed" if count else ""


def clean_table(removed: Sequence[Removed]) -> RenderableType:
    """What was taken away."""
    total = sum(part.size for part in removed)
    parts = [
        f"{part.count} x {part.what} ({readable(part.size)})" for part in removed if part.count
    ]
    if not parts:
        return Text("Nothing to clean.")
    return Text(f"Removed {', '.join(parts)}; {readable(total)} in all.")


def reap_table(reaped: Sequence[Reaped]) -> RenderableType:
    """What was done about each run."""
    if not reaped:
        return Text("No runs below runs/; name one.")
    table = Table.grid(padding=(0, 2))
    for each in reaped:
        done = ", ".join(each.done) or ("" if each.left else "nothing to clear up")
        table.add_row(Text(near(each.run_dir), style="name"), Text(done))
        for reason in each.left:
            table.add_row("", Text(f"left: {reason}", style="careful"))
    return table
