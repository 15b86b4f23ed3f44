"""`stepfold repair`: remove damaged artifacts of a run, recompute them, and verify the run."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from flows.cli.console import DONE, FAILED, open_console
from flows.cli.options import RunDirArgument
from flows.cli.run import execute
from flows.cli.verify import damage_table, show_verdict, verify_run
from pipeline.wording import format_count, format_path

if TYPE_CHECKING:
    from flows.cli.request import Request
    from pipeline.verification.examine import Examination

_log = logging.getLogger(__name__)


def repair(
    run_dir: RunDirArgument = None,
    profile: Annotated[
        Path | None,
        typer.Option(
            "--profile",
            "-p",
            metavar="FILE",
            help="Profile file (YAML) for the recomputation. Default: the last profile of the run.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be removed, without removing it.")
    ] = False,
) -> None:
    """Remove damaged artifacts of a run, recompute them, and verify the run.

    Artifacts computed from them are kept if the recomputed bytes are the same.

    Exit codes: those of `stepfold run`; 1 also if --dry-run finds damage, or damage remains.
    """
    from flows.cli.request import find_run

    code = repair_run(find_run(run_dir, profile), profile, dry_run=dry_run)
    raise typer.Exit(code)


def repair_run(run_dir: Path, profile_path: Path | None, *, dry_run: bool) -> int:
    """Restore a run directory with as little work as possible; returns the exit code.

    Args:
        run_dir: the run directory, absolute.
        profile_path: the profile to compute with; None for that of the last run.
        dry_run: print what would be done, and change nothing.

    Raises:
        StepfoldError: the run is in progress, or a damaged artifact cannot be recomputed (its data
            are missing, for example); then nothing was removed.
    """
    from flows import preflight
    from pipeline.ledger import Ledger, lock_run_dir
    from pipeline.training.plan import plan_rounds
    from pipeline.verification.examine import examine, remove_damaged
    from stages.rounds.promote import drop_targets

    console = open_console()
    verdict = verify_run(run_dir)
    if verdict.is_sound:
        show_verdict(run_dir, verdict)
        return DONE
    _announce(console, run_dir, verdict)
    if dry_run:
        return FAILED
    request = _request(run_dir, profile_path)
    preflight.check(request.recipe, request.profile, run_dir, accept_changes=False)
    with lock_run_dir(run_dir):
        # examined a second time: the directory was not locked in between
        thrown = remove_damaged(run_dir, examine(run_dir).damaged)
    _log.info("repair: removed=%s", [artifact.path for artifact in thrown])
    code = execute(request, accept_changes=False, teacher_only=False)
    if code != DONE:
        return code
    with lock_run_dir(run_dir):
        # promotion drops targets, but a student with the same bytes is not promoted again
        drop_targets(Ledger(run_dir), plan_rounds(request.recipe)[-1], request.recipe.targets.keep)
    removed = format_count(len(thrown), "artifact")
    console.print(f"\nRemoved and computed again: {removed}.", soft_wrap=True)
    after = verify_run(run_dir)
    show_verdict(run_dir, after)
    return DONE if after.is_sound else FAILED


def _request(run_dir: Path, profile_path: Path | None) -> "Request":
    from flows.cli.request import Request, read_profile
    from pipeline.run_dir.recipe_file import read_recipe, recorded_profile

    profile = recorded_profile(run_dir) if profile_path is None else read_profile(profile_path)
    command = f"stepfold repair {format_path(run_dir)}"
    command += f" --profile {profile_path}" if profile_path else ""
    return Request(recipe=read_recipe(run_dir), profile=profile, run_dir=run_dir, command=command)


def _announce(console: Console, run_dir: Path, verdict: "Examination") -> None:
    console.print(Text(f"{format_path(run_dir)}: {len(verdict.damaged)} damaged", style="name"))
    console.print(damage_table(verdict.damaged, with_remedy=True))
    text = "What was computed from it is kept if the bytes come out equal, else computed again.\n"
    console.print(Text(text, style="quiet"), soft_wrap=True)
