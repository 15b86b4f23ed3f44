"""`stepfold notify`: set up notifications of failed runs, and send a test message."""

import os
from typing import Annotated

import typer

from flows.orchestration import settings


def notify(
    block: Annotated[
        str,
        typer.Argument(
            metavar="TYPE/NAME",
            help="Prefect notification block, such as custom-webhook/team or smtp-email/team.",
        ),
    ],
    address_from: Annotated[
        str | None,
        typer.Option(
            metavar="VARIABLE",
            help="Environment variable with the address: a webhook URL, or mailtos://... for "
            "email. Creates or replaces the block.",
        ),
    ] = None,
) -> None:
    """Set up notifications of failed runs through a Prefect block, and send a test message.

    With PREFECT_API_URL set, that server sends notifications for every run from now on, also when a
    driver is killed. Otherwise, name the block in the profile, and each run sends its own.

    --address-from creates blocks of type custom-webhook, slack-webhook, ms-teams-webhook and
    smtp-email. The address of smtp-email is mailtos://USER:PASSWORD@SMTP-SERVER/RECIPIENT.
    """
    settings.set_defaults()
    # imports Prefect, which reads its settings then
    from flows.cli.console import open_console
    from flows.orchestration.notifications import create_automations, create_block, send
    from pipeline.errors import ConfigError, InfraError

    if address_from:
        address = os.environ.get(address_from)
        if not address:
            raise ConfigError(
                f"--address-from: the environment variable {address_from} is not set; export it"
            )
        create_block(block, address)
    try:
        send(block, "Stepfold: test message", "Failure notifications will be sent here.")
    except ConfigError:
        raise
    except Exception as error:
        raise InfraError(
            f"{block}: could not send the test message ({type(error).__name__}); check the address"
        ) from None
    console = open_console()
    console.print(f"Sent a test message via {block}.")
    if not os.environ.get("PREFECT_API_URL"):
        console.print(f"To notify of failures, add to the profile:\nnotify: {{block: {block}}}")
        return
    create_automations(block)
    console.print(
        "This Prefect server now notifies when a run fails, crashes or waits for approval."
    )
    if block.startswith("smtp-email/"):
        console.print("To send email, start the server where Stepfold is installed.")
