"""The commands that look after a run directory: verify, repair, reap."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.refusals import refusals

keep = typer.Typer()

_PANEL = "Maintain"

SomeRun = Annotated[Path, typer.Argument(metavar="RUN_DIR", help="A run directory.")]


@keep.command(rich_help_panel=_PANEL)
def verify(
    run_dir: SomeRun,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Check every file, count, number and parent of a run; name what is damaged.

    Exit codes: 0 sound, 1 damaged, 2 no run there, or one that is at work.
    """
    with refusals():
        from flows.cli.verify import show_verdict, verify_run

        verdict = verify_run(run_dir, quiet=as_json)
        if as_json:
            typer.echo(verdict.model_dump_json(indent=1))
        else:
            show_verdict(run_dir, verdict)
    raise typer.Exit(0 if verdict.is_sound else 1)


@keep.command(rich_help_panel=_PANEL)
def repair(
    run_dir: SomeRun,
    profile: Annotated[
        Path | None,
        typer.Option("--profile", "-p", metavar="FILE", help="Where; as it was last run."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what.")] = False,
) -> None:
    """Throw away exactly what is damaged, run to the end, and check again.

    Exit codes: those of `run`; 1 also for what --dry-run would do, or what is damaged still.
    """
    with refusals():
        from flows.cli.repair import repair as repair_run

        code = repair_run(run_dir, profile, dry_run=dry_run)
    raise typer.Exit(code)


@keep.command(rich_help_panel=_PANEL)
def reap(
    run_dir: Annotated[
        Path | None, typer.Argument(metavar="[RUN_DIR]", help="One run; else all in runs/.")
    ] = None,
) -> None:
    """Clear up after killed drivers: flow runs, MLflow runs, servers, debris.

    Exit codes: 0 done, 1 a service did not answer, 2 no run there, or one that is at work.
    """
    with refusals():
        from flows.cli.clean import reap as reap_runs
        from flows.cli.clean import reap_table
        from flows.cli.console import open_console

        found = reap_runs(run_dir)
        open_console().print(reap_table(found), soft_wrap=True)
    raise typer.Exit(1 if run_dir and any(each.left for each in found) else 0)
