"""The commands that come before a run: a recipe to start from, a schema for the editor."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from flows.cli.refusals import refusals

begin = typer.Typer()

_PANEL = "Begin"


@begin.command(rich_help_panel=_PANEL)
def init(
    kind: Annotated[
        str | None, typer.Argument(metavar="[KIND]", help="Which; without it they are listed.")
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FILE", help="KIND.yaml here by default.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file.")] = False,
) -> None:
    """Write a recipe to start from: digits, your images, Stable Diffusion, SDXL, SD3, Flux."""
    with refusals(creates=True):
        from flows.cli.init import start

        start(kind, to, force=force)


@begin.command(rich_help_panel=_PANEL)
def schema(
    kind: Annotated[
        Literal["recipe", "profile"], typer.Argument(help="Of which document.")
    ] = "recipe",
) -> None:
    """Print the JSON schema of recipes or profiles, for editors."""
    from flows.cli.init import schema_of

    typer.echo(schema_of(kind), nl=False)
