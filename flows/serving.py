"""The command that has people told of a failure."""

from typing import Annotated

import typer

from flows.refusals import refusals

serving = typer.Typer()


@serving.command(rich_help_panel="Serve")
def notify(
    block: Annotated[
        str,
        typer.Argument(
            metavar="TYPE/NAME", help="custom-webhook/us, smtp-email/us ... of Prefect."
        ),
    ],
    address_from: Annotated[
        str | None,
        typer.Option(metavar="VARIABLE", help="Make it, with the address that this one holds."),
    ] = None,
) -> None:
    """Have people told when a run fails; sends a message to try it.

    With PREFECT_API_URL that server tells from now on, of every run and of drivers that fall
    silent. Without, name the block in the profile, and each run tells of itself.

    Made here: custom-webhook, slack-webhook, ms-teams-webhook, smtp-email. The address of the last
    is mailtos://USER:PASSWORD@SMTP-SERVER/PERSON@EXAMPLE.ORG.
    """
    with refusals():
        from flows.notifying import set_up

        set_up(block, address_from)
