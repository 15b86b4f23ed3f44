"""`stepfold notify`: make a notification block, try it, have a server tell of every failure."""

import os
import re
from datetime import timedelta
from typing import Any

from flows import environment
from flows.console import open_console
from flows.notify import send
from flows.prefect_pages import pages
from flows.silence import silenced
from pipeline.errors import ConfigError, InfraError

AUTOMATION = "stepfold: a run failed"
SILENT = "stepfold: a driver fell silent"

_FLOWS = ["full-distillation", "train-teacher"]
_TOLD = ("Failed", "Crashed", "TimedOut", "Paused", "Suspended")
_ENDED = ("Completed", "Failed", "Crashed", "Cancelled", "Paused", "Suspended")
_SILENT_S = 120  # four heartbeats

_SUBJECT = "Stepfold: {{ flow_run.name }} {{ flow_run.state.name | lower }}"
_BODY = """\
{{ flow_run.state.message }}

Directory: {{ flow_run.parameters['run_dir'] }}
Prefect: PAGES/runs/flow-run/{{ flow_run.id }}

The same `stepfold run` goes on from where it stopped."""


def set_up(block: str, address_from: str | None) -> None:
    """Make the block if an address is given, send a message, and set up the server if there is one.

    Args:
        block: `TYPE/NAME` of a notification block.
        address_from: the variable of the environment that holds the address of a webhook, or of a
            mail server and whom to reach.

    Raises:
        ConfigError: no such block or variable, a name that no block may have, or a type that is
            not made here.
        InfraError: the message did not go.
    """
    environment.settle()
    if address_from:
        _make(block, address_from)
    try:
        send(block, "Stepfold reaches you", "This is how you are told that a run failed.")
    except ConfigError:
        raise
    except Exception as error:
        raise InfraError(
            f"{block}: the message did not go ({type(error).__name__}); look at its address"
        ) from None
    console = open_console()
    console.print(f"A message went through {block}.")
    if os.environ.get("PREFECT_API_URL"):
        _automate(block)
        console.print("This Prefect server now tells of runs that fail, crash, or wait for you.")
        if block.startswith("smtp-email/"):
            console.print("To send e-mail it has to be started where Stepfold is installed.")
    else:
        console.print(f"For runs on this machine, add to the profile:\nnotify: {{block: {block}}}")


def _make(block: str, address_from: str) -> None:
    address = os.environ.get(address_from)
    if not address:
        raise ConfigError(f"--address-from: {address_from} is not set; export it")
    kind, _, name = block.partition("/")
    if not name:
        raise ConfigError(f"{block}: a block is named by its type and a name, such as {kind}/us")
    if not re.fullmatch(r"[a-z0-9-]+", name):
        raise ConfigError(
            f"{block}: the name of a block is made of lowercase letters, numbers and dashes, "
            f"which {name!r} is not; choose one such as {kind}/our-team"
        )
    with silenced():
        made = _block_at(kind, address, name)
        made.save(name, overwrite=True)


def _block_at(kind: str, address: str, name: str) -> Any:
    from prefect.blocks import notifications
    from pydantic import SecretStr

    from flows.smtp_email import email_at

    match kind:
        case "custom-webhook":
            values: dict[str, Any] = {
                "name": name,
                "url": "{{address}}",
                "json_data": {"title": "{{subject}}", "text": "{{subject}}\n\n{{body}}"},
                "secrets": {"address": address},  # encrypted in Prefect's database, never shown
            }
            return notifications.CustomWebhookNotificationBlock(**values)
        case "slack-webhook":
            return notifications.SlackWebhook(url=SecretStr(address))
        case "ms-teams-webhook":
            return notifications.MicrosoftTeamsWebhook(url=SecretStr(address))
        case "smtp-email":
            return email_at(address)
        case _:
            raise ConfigError(
                f"{kind}: --address-from makes custom-webhook, slack-webhook, ms-teams-webhook "
                "and smtp-email; make others, such as sendgrid-email, in Prefect's pages"
            )


def _automate(block: str) -> None:
    from prefect.blocks.core import Block
    from prefect.events.actions import ChangeFlowRunState, SendNotification
    from prefect.events.schemas.automations import EventTrigger, Posture

    found: Any = Block.load(block)
    ours: dict[str, Any] = {
        "match": {"prefect.resource.id": "prefect.flow-run.*"},
        "match_related": {"prefect.resource.role": "flow", "prefect.resource.name": _FLOWS},
    }
    told = EventTrigger(
        **ours,
        posture=Posture.Reactive,
        expect={f"prefect.flow-run.{state}" for state in _TOLD},
        threshold=1,
        within=timedelta(0),
    )
    silent = EventTrigger(
        **ours,
        posture=Posture.Proactive,
        after={"prefect.flow-run.heartbeat"},
        expect={"prefect.flow-run.heartbeat", *(f"prefect.flow-run.{each}" for each in _ENDED)},
        for_each={"prefect.resource.id"},
        threshold=1,
        within=timedelta(seconds=_SILENT_S),
    )
    message = SendNotification(
        block_document_id=found._block_document_id,
        subject=_SUBJECT,
        body=_BODY.replace("PAGES", pages()),
    )
    _replace(AUTOMATION, told, message)
    crashed: dict[str, Any] = {"state": "CRASHED", "message": "its driver fell silent"}
    _replace(SILENT, silent, ChangeFlowRunState(**crashed))


def _replace(name: str, trigger: Any, action: Any) -> None:
    """Have one automation of this name, and no older one."""
    from prefect.automations import Automation
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        for old in client.read_automations_by_name(name):
            client.delete_automation(old.id)
    Automation(name=name, trigger=trigger, actions=[action]).create()
