"""The commands that look at a run: where it stands, its page, its log."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.refusals import refusals

look = typer.Typer()

_PANEL = "Look"

SomeRun = Annotated[
    Path | None,
    typer.Option("--run-dir", "-d", metavar="DIR", help="A run; the newest by default."),
]


@look.command(rich_help_panel=_PANEL)
def status(run_dir: SomeRun = None) -> None:
    """Show where a run stands."""
    with refusals():
        from flows.cli.console import open_console
        from flows.cli.status import status_table
        from pipeline.run_dir.run_status import require_run, stand

        place = require_run(run_dir, Path("runs"))
        open_console().print(status_table(place, stand(place)), soft_wrap=True)


@look.command(rich_help_panel="Run")
def accept(run_dir: SomeRun = None) -> None:
    """Let the student through at which the gate stopped a run."""
    with refusals():
        from flows.cli.approve import accept_failed

        accept_failed(run_dir)


@look.command(rich_help_panel=_PANEL)
def page(
    run_dir: SomeRun = None,
    price: Annotated[
        float | None,
        typer.Option("--price", min=0, help="Of an hour of all machines, in any currency."),
    ] = None,
) -> None:
    """Write a finished run's page again: verdict, pictures, charts, cost, lineage, in one file."""
    with refusals():
        from flows.cli.report import write_again

        write_again(run_dir, price)


@look.command(rich_help_panel=_PANEL)
def compare(
    one: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory with a report.")],
    two: Annotated[Path, typer.Argument(metavar="RUN", help="Another.")],
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FILE", help="compare-RUN-RUN.html by default.")
    ] = None,
    price: Annotated[
        float | None,
        typer.Option("--price", min=0, help="Of an hour of all machines, in any currency."),
    ] = None,
) -> None:
    """Write one page of two finished runs: verdicts, numbers, pictures and cost side by side."""
    with refusals():
        from flows.cli.report import write_both

        write_both(one, two, to, price)


@look.command(rich_help_panel=_PANEL)
def play(
    bundle: Annotated[
        Path, typer.Argument(metavar="BUNDLE", help="A student; or a run, for all its students.")
    ],
    teacher: Annotated[
        Path | None,
        typer.Option("--teacher", metavar="DIR", help="Another; that of its run by default."),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="On 127.0.0.1.")] = 7860,
) -> None:
    """Open a small page on this machine: draw with a student beside its teacher."""
    with refusals():
        from flows.cli.play import play_with

        play_with(bundle, teacher, port)


@look.command(rich_help_panel=_PANEL)
def logs(
    run_dir: SomeRun = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as it grows.")] = False,
) -> None:
    """Show the end of a run's log."""
    with refusals():
        from flows.cli.logs import tail
        from pipeline.run_dir.run_status import require_run

        place = require_run(run_dir, Path("runs"))
        for line in tail(place / "logs" / "run.log", lines, follow=follow):
            typer.echo(line)
