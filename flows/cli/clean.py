"""`stepfold clean`: remove files that a run no longer needs, and leftovers of killed drivers."""

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from flows.cli.console import DONE, FAILED, open_console
from flows.cli.options import RunDirArgument, RunsProfile
from pipeline.errors import BusyError, ConfigError, InfraError
from pipeline.wording import format_bytes, format_count, format_path

if TYPE_CHECKING:
    from pipeline.config import Recipe
    from pipeline.training.round_plan import RoundPlan


def clean(
    run_dir: RunDirArgument = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Remove the whole run, with its students and report.")
    ] = False,
    stale: Annotated[
        bool,
        typer.Option(
            "--stale",
            help="Clean up after killed drivers instead: stop their servers, mark their runs in "
            "the tracker and in Prefect, remove debris. Without RUN_DIR: for every run.",
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be removed, without removing it.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask for confirmation (with --all).")
    ] = False,
    profile: RunsProfile = None,
) -> None:
    """Remove what a run no longer needs: debris, targets and checkpoints of finished rounds.

    Students and reports are kept, unless --all is given.

    Example: stepfold clean runs/digits --dry-run

    Exit codes: 0 done, 1 a service did not respond (with --stale RUN_DIR), 2 refused.
    """
    if everything and stale:
        raise ConfigError("--all and --stale cannot be combined; use one of them")
    if stale:
        code = _clean_stale(run_dir, profile, dry_run=dry_run)
    else:
        code = _clean_files(run_dir, profile, everything=everything, dry_run=dry_run, yes=yes)
    raise typer.Exit(code)


def _clean_files(
    run_dir: Path | None, profile: Path | None, *, everything: bool, dry_run: bool, yes: bool
) -> int:
    from flows.cli.request import find_run

    if everything and run_dir is None:
        raise ConfigError("--all: name the run directory to remove")
    place = find_run(run_dir, profile)
    if everything and not (yes or dry_run):
        typer.confirm(f"Remove {format_path(place)} with its students and its report?", abort=True)
    if everything:
        removed = [clean_all(place, dry_run=dry_run)]
    else:
        removed = clean_finished(place, dry_run=dry_run)
    open_console().print(removed_text(removed, dry_run=dry_run), soft_wrap=True)
    return DONE


def _clean_stale(run_dir: Path | None, profile: Path | None, *, dry_run: bool) -> int:
    from flows.cli.request import find_run, runs_root

    root = runs_root(profile)
    if run_dir is not None:
        found = [_clean_stale_run(find_run(run_dir, profile), dry_run=dry_run)]
    else:
        found = clean_stale_runs(root, dry_run=dry_run)
    open_console().print(stale_table(found, root), soft_wrap=True)
    return FAILED if run_dir and any(each.left for each in found) else DONE


@dataclass(frozen=True)
class Removed:
    """One kind of files that were removed, or would be.

    Attributes:
        what: description, without a number.
        count: number of entries.
        size: bytes in them.
    """

    what: str
    count: int
    size: int


def clean_finished(run_dir: Path, *, dry_run: bool = False) -> list[Removed]:
    """Remove files that are no longer needed; students, teacher and report are kept.

    Raises:
        ConfigError: not a run directory.
        BusyError: another process is using the run directory.
    """
    from pipeline.ledger import lock_run_dir
    from pipeline.run_dir.layout import RunDir

    recipe = _recipe_of(run_dir)
    with lock_run_dir(run_dir):
        done = _finished_rounds(recipe, run_dir)
        checkpoints = [RunDir(run_dir).checkpoints(plan) for plan in done]
        return [
            _remove_debris(run_dir, dry_run=dry_run),
            _forget_targets(run_dir, done, dry_run=dry_run),
            _remove("checkpoints of finished rounds", checkpoints, dry_run=dry_run),
        ]


def clean_all(run_dir: Path, *, dry_run: bool = False) -> Removed:
    """Remove the whole run directory.

    Raises:
        ConfigError: not a run directory.
        BusyError: another process is using the run directory.
    """
    from pipeline.ledger import lock_run_dir

    _recipe_of(run_dir)
    with lock_run_dir(run_dir):
        return _remove("run directory", [run_dir], dry_run=dry_run)


def _recipe_of(run_dir: Path) -> "Recipe":
    from pipeline.run_dir.recipe_file import read_recipe

    if run_dir.is_symlink():
        raise ConfigError(f"{run_dir} is a symbolic link; give the directory itself")
    return read_recipe(run_dir)


def _finished_rounds(recipe: "Recipe", run_dir: Path) -> "list[RoundPlan]":
    from pipeline.ledger import Ledger
    from pipeline.run_dir import layout
    from pipeline.training.plan import plan_rounds, plan_teacher

    places = {artifact.path for artifact in Ledger(run_dir).records()}
    teacher = plan_teacher(recipe)
    plans = [plan for plan in plan_rounds(recipe) if layout.student_of(plan) in places]
    return [*plans, *([teacher] if teacher and layout.TEACHER in places else [])]


def _remove_debris(run_dir: Path, *, dry_run: bool) -> Removed:
    """Remove debris of interrupted work; the caller has locked the run directory."""
    from pipeline.ledger import Ledger
    from pipeline.verification.strays import find_strays

    found = find_strays(run_dir, Ledger(run_dir).records()).debris
    return _remove(
        "debris of interrupted work", [run_dir / place for place in found], dry_run=dry_run
    )


def _forget_targets(run_dir: Path, done: "Iterable[RoundPlan]", *, dry_run: bool) -> Removed:
    from pipeline.ledger import Ledger
    from pipeline.run_dir import layout

    ledger = Ledger(run_dir)
    folders = tuple(f"{layout.targets_of(plan)}/" for plan in done)
    targets = [
        artifact
        for artifact in ledger.records()
        if artifact.kind == "targets" and artifact.path.startswith(folders)
    ]
    size = sum(record.size for artifact in targets for record in artifact.files.values())
    if not dry_run:
        for artifact in targets:
            ledger.forget(artifact)
    return Removed(what="targets of finished rounds", count=len(targets), size=size)


def _remove(what: str, paths: list[Path], *, dry_run: bool) -> Removed:
    found = [path for path in paths if path.exists() or path.is_symlink()]
    size = sum(_size(path) for path in found)
    for path in [] if dry_run else found:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    return Removed(what=what, count=len(found), size=size)


def _size(path: Path) -> int:
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.lstat().st_size for file in files if file.is_file())


@dataclass(frozen=True)
class StaleRun:
    """Result of the cleanup of one run after its driver was killed.

    Attributes:
        run_dir: the run directory.
        done: servers stopped, runs marked, debris removed.
        left: reasons why something was not cleaned up.
    """

    run_dir: Path
    done: tuple[str, ...]
    left: tuple[str, ...] = ()


def clean_stale_runs(root: Path, *, dry_run: bool = False) -> list[StaleRun]:
    """Clean up after killed drivers in every run below `root` that is not locked."""
    from pipeline.run_dir.layout import RECIPE

    found = []
    for recipe in sorted(root.glob(f"*/{RECIPE}")):
        try:
            found.append(_clean_stale_run(recipe.parent, dry_run=dry_run))
        except (BusyError, ConfigError) as error:
            found.append(StaleRun(recipe.parent, (), (str(error),)))
    return found


def _clean_stale_run(run_dir: Path, *, dry_run: bool) -> StaleRun:
    from flows.orchestration.cleanup import abandoned_servers, remove_leftovers
    from pipeline.ledger import check_format, lock_run_dir
    from pipeline.run_dir.recipe_file import check_location

    done: list[str] = []
    left: list[str] = []
    check_location(run_dir)
    check_format(run_dir)
    with lock_run_dir(run_dir):
        if dry_run:
            servers = len(list(abandoned_servers(run_dir)))
            done += [f"{format_count(servers, 'Prefect server')} to stop"] if servers else []
        else:
            done += remove_leftovers(run_dir)
        debris = _remove_debris(run_dir, dry_run=dry_run)
        if debris.count:
            pieces = format_count(debris.count, "piece")
            verb = "to remove" if dry_run else "removed"
            done.append(f"{pieces} of debris {verb} ({format_bytes(debris.size)})")
        if dry_run:
            return StaleRun(run_dir, tuple(done), ("runs in the tracker and in Prefect (dry run)",))
        for mark in (_mark_tracked_runs, _mark_flow_runs):
            _try(mark, run_dir, done, left)
    return StaleRun(run_dir, tuple(done), tuple(left))


def _try(mark: Callable[[Path], str], run_dir: Path, done: list[str], left: list[str]) -> None:
    """Run one step; a service that does not respond does not affect the other steps."""
    try:
        marked = mark(run_dir)
    except (InfraError, ConfigError) as error:
        left.append(str(error))
    else:
        done += [marked] if marked else []


def _mark_tracked_runs(run_dir: Path) -> str:
    from infra.tracking import has_history, tracker_of
    from pipeline.config.profile import Profile
    from pipeline.run_dir.layout import PROFILE
    from pipeline.run_dir.recipe_file import recorded_profile
    from pipeline.run_dir.run_id import recorded_id

    profile = recorded_profile(run_dir) if (run_dir / PROFILE).is_file() else Profile()
    tracking = profile.tracking
    run_id = recorded_id(run_dir)
    if run_id is None or not has_history(tracking, run_dir.parent):
        return ""
    count = tracker_of(tracking, run_dir.parent).end_stale_runs(run_id.id)
    return f"{format_count(count, f'{tracking.title} run')} marked as killed" if count else ""


def _mark_flow_runs(run_dir: Path) -> str:
    from flows.orchestration.cleanup import crash_dead_flow_runs

    count = crash_dead_flow_runs(run_dir)
    return f"{format_count(count, 'flow run')} marked as crashed" if count else ""


def removed_text(removed: Sequence[Removed], *, dry_run: bool = False) -> RenderableType:
    """Return one sentence: what was removed, or would be."""
    total = sum(part.size for part in removed)
    parts = [
        f"{part.count} x {part.what} ({format_bytes(part.size)})" for part in removed if part.count
    ]
    if not parts:
        return Text("Nothing to remove.")
    verb = "Would remove" if dry_run else "Removed"
    return Text(f"{verb} {', '.join(parts)}; {format_bytes(total)} in total.")


def stale_table(runs: Sequence[StaleRun], root: Path) -> RenderableType:
    """Return one row per run: what was cleaned up, and what was not, with the reason."""
    if not runs:
        return Text(f"No runs in {format_path(root)}.")
    table = Table.grid(padding=(0, 2))
    for _ in range(2):
        table.add_column(overflow="fold")  # a path must not be cut
    for run in runs:
        done = ", ".join(run.done) or ("" if run.left else "nothing to clean up")
        table.add_row(Text(format_path(run.run_dir), style="name"), Text(done))
        for reason in run.left:
            table.add_row("", Text(f"not cleaned up: {reason}", style="careful"))
    return table
