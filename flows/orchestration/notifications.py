"""Failure notifications through Prefect notification blocks.

Prefect stores a block with its address and secrets, encrypted, in its database; a profile only
names it. Without a Prefect server that outlives the run, the run itself sends the notification.
With one, automations of the server send it, which also detect drivers that were killed.
"""

import logging
import platform
import re
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from apprise import NotifyFormat
from prefect.blocks import notifications
from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.core import Block
from pydantic import Field, SecretStr

from flows.orchestration.server import flow_run_url, is_server_lost, ui_url
from pipeline.errors import BusyError, ConfigError
from pipeline.redaction import redact
from pipeline.run_dir.events import Events
from pipeline.run_dir.layout import RunDir

_MAX_ERROR_LENGTH = 600  # characters; the log has the full text

_AUTOMATION = "stepfold: a run failed"
_SILENT_AUTOMATION = "stepfold: no driver heartbeat"
_FLOWS = ["full-distillation", "train-teacher"]
_REPORTED_STATES = ("Failed", "Crashed", "TimedOut", "Paused", "Suspended")
_FINAL_STATES = ("Completed", "Failed", "Crashed", "Cancelled", "Paused", "Suspended")
_SILENT_S = 120  # four heartbeats
_SILENT_MESSAGE = f"no heartbeat from the driver for {_SILENT_S} s"

_SUBJECT = "Stepfold: {{ flow_run.name }} {{ flow_run.state.name | lower }}"
_BODY = """\
{{ flow_run.state.message }}

Directory: {{ flow_run.parameters['run_dir'] }}
Prefect: PAGES/runs/flow-run/{{ flow_run.id }}

Run the same `stepfold run` command again to resume."""

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_ADDRESS_FORM = "mailtos://USER:PASSWORD@SMTP-SERVER/RECIPIENT"

_CHATTY = ("httpx", "httpcore", "apprise")  # they log addresses, and an address holds a secret
_disabled = logging.getLogger(f"{__name__}.disabled")
_disabled.disabled = True

_log = logging.getLogger(__name__)


def notify_failure(flow: Any, flow_run: Any, state: Any) -> None:
    """Send a notification that a run failed, if its profile names a block; a Prefect state hook.

    Skipped for Ctrl-C, for a run directory that another run has locked, and for a lost Prefect
    server, after which the run continues without it.
    """
    block, error = _block_of(flow_run), _cause(state)
    expected = error and (isinstance(error, KeyboardInterrupt | BusyError) or is_server_lost(error))
    if block and not expected:
        subject = f"Stepfold: {flow_run.name} {state.name.lower()}"
        try_send(block, subject, _failure_text(flow, flow_run, state, error))


def try_send(block: str, subject: str, body: str) -> bool:
    """Send a message; log a failure to send. Returns whether it was sent."""
    try:
        send(block, subject, body)
    except Exception as error:  # only a message is lost
        # the text of the error may hold the address
        _log.warning("could not send notification via %s: %s", block, type(error).__name__)
        return False
    _log.info("sent notification via %s: %s", block, subject)
    return True


def send(block: str, subject: str, body: str) -> None:
    """Send a message through a notification block; log neither the message nor the address.

    Raises:
        ConfigError: the block does not exist or is not a notification block.
        Exception: any error of the service or the network; its text may hold the address.
    """
    with silenced():
        try:
            loaded: Any = Block.load(block)
        except ValueError:
            raise ConfigError(
                f"notify.block: Prefect has no block {block!r}; create it with "
                f"`stepfold notify {block} --address-from VARIABLE` or in the Prefect UI"
            ) from None
        if not isinstance(loaded, NotificationBlock):
            raise ConfigError(
                f"notify.block: {block!r} is not a notification block; use one such as "
                "custom-webhook/NAME"
            )
        sender: Any = loaded
        with sender.raise_on_failure():  # most blocks hide that sending failed
            sender.notify(redact(body), redact(subject))


def create_block(block: str, address: str) -> None:
    """Create or replace a notification block.

    Args:
        block: `TYPE/NAME` of the block.
        address: URL of the webhook, or of the SMTP server and the recipient.

    Raises:
        ConfigError: the type is not supported, or the name or the address is not valid.
    """
    kind, _, name = block.partition("/")
    if not re.fullmatch(r"[a-z0-9-]+", name):
        raise ConfigError(
            f"{block}: the block name {name!r} is not valid; use TYPE/NAME, with lowercase "
            f"letters, numbers and dashes in NAME, such as {kind}/our-team"
        )
    with silenced():
        made: Any = _new_block(kind, name, address)
        made.save(name, overwrite=True)


def create_automations(block: str) -> None:
    """Create or replace the server's automations: failure notifications, and heartbeat monitoring.

    The second marks a run as crashed if its driver sends no heartbeat; the first then reports it.
    """
    from prefect.events.actions import ChangeFlowRunState, SendNotification
    from prefect.events.schemas.automations import EventTrigger, Posture

    stored: Any = Block.load(block)
    own_runs: dict[str, Any] = {
        "match": {"prefect.resource.id": "prefect.flow-run.*"},
        "match_related": {"prefect.resource.role": "flow", "prefect.resource.name": _FLOWS},
        "threshold": 1,
    }
    reported = EventTrigger(
        **own_runs,
        posture=Posture.Reactive,
        expect={f"prefect.flow-run.{state}" for state in _REPORTED_STATES},
        within=timedelta(0),
    )
    silent = EventTrigger(
        **own_runs,
        posture=Posture.Proactive,
        after={"prefect.flow-run.heartbeat"},
        expect={f"prefect.flow-run.{event}" for event in ("heartbeat", *_FINAL_STATES)},
        for_each={"prefect.resource.id"},
        within=timedelta(seconds=_SILENT_S),
    )
    message = SendNotification(
        block_document_id=stored._block_document_id,
        subject=_SUBJECT,
        body=_BODY.replace("PAGES", ui_url()),
    )
    crash: dict[str, Any] = {"state": "CRASHED", "message": _SILENT_MESSAGE}
    _replace_automation(_AUTOMATION, reported, message)
    _replace_automation(_SILENT_AUTOMATION, silent, ChangeFlowRunState(**crash))


@contextmanager
def silenced() -> Iterator[None]:
    """Suppress the logs of libraries that send messages; an address may hold a secret."""
    loggers = [logging.getLogger(name) for name in _CHATTY]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


# prefect-email 0.4.3 sends with our Prefect but cannot replace this block, since its
# EmailServerCredentials has no recipient and no `notify`, which Prefect's automations require.
class SmtpEmail(notifications.AppriseNotificationBlock):
    """Send plain-text email through an SMTP server.

    By the entry point `prefect.collections`, a Prefect server finds this block wherever Stepfold
    is installed.
    """

    _block_type_name = "SMTP Email"
    _block_type_slug = "smtp-email"
    _description = "Sends email through an SMTP server."

    url: SecretStr = Field(title="Address", description=f"An Apprise URL: {_ADDRESS_FORM}.")

    def block_initialization(self) -> None:
        """Parse the address; later failures raise errors without it and are not logged."""
        with silenced():
            super().block_initialization()
        for service in self.services:
            service.notify_format = NotifyFormat.TEXT  # as HTML it would lose its line breaks
            service.logger = _disabled

    @property
    def services(self) -> tuple[Any, ...]:
        """The SMTP service of the address; empty if Apprise cannot parse the address."""
        return tuple(self._apprise_client)


def email_block(address: str) -> SmtpEmail:
    """Build an SMTP block for an Apprise URL.

    Raises:
        ConfigError: the address has no recipient, or would send a password unencrypted.
    """
    block = SmtpEmail(url=SecretStr(address))
    server = next(iter(block.services), None)
    is_mail = address.startswith(("mailto://", "mailtos://"))
    if not is_mail or server is None or not server.targets:
        raise ConfigError(
            f"smtp-email: the address is not valid; use {_ADDRESS_FORM}, with %40 for an @ in "
            "USER, and ?from=SENDER for a sender other than USER at that server"
        )
    if server.password and server.secure_mode == "insecure" and server.smtp_host not in _LOOPBACK:
        raise ConfigError(
            "smtp-email: this address would send its password unencrypted; start it with mailtos://"
        )
    return block


def _new_block(kind: str, name: str, address: str) -> Any:
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
            return email_block(address)
        case _:
            raise ConfigError(
                f"{kind}: --address-from supports custom-webhook, slack-webhook, ms-teams-webhook "
                "and smtp-email; create other types in the Prefect UI"
            )


def _replace_automation(name: str, trigger: Any, action: Any) -> None:
    from prefect.automations import Automation
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        for old in client.read_automations_by_name(name):
            client.delete_automation(old.id)
    Automation(name=name, trigger=trigger, actions=[action]).create()


def _failure_text(flow: Any, flow_run: Any, state: Any, error: BaseException | None) -> str:
    run_dir = str((flow_run.parameters or {}).get("run_dir") or "")
    cause = f"{type(error).__name__}: {error}" if error is not None else str(state.message)
    lines = [textwrap.shorten(cause, _MAX_ERROR_LENGTH), ""]
    if run_dir:
        stage = _last_stage(Path(run_dir))
        lines += [f"In: {stage}"] if stage else []
        lines += [
            f"Directory: {platform.node()}:{run_dir}",
            f"Log: {RunDir(Path(run_dir)).run_log}",
        ]
    page = flow_run_url(flow_run.id)
    lines += [f"Prefect: {page}"] if page else []
    lines += ["", f"Run the same `stepfold run` command again to resume ({flow.name})."]
    return "\n".join(lines)


def _last_stage(run_dir: Path) -> str:
    """The stage that started last, in which the run must have failed."""
    events, _ = Events(run_dir).read()
    return next((event.title for event in reversed(events) if event.kind == "stage_started"), "")


def _block_of(flow_run: Any) -> str | None:
    profile = (flow_run.parameters or {}).get("profile")
    notify = profile.get("notify") if isinstance(profile, dict) else None
    return notify.get("block") if isinstance(notify, dict) else None


def _cause(state: Any) -> BaseException | None:
    try:
        result = state.result(raise_on_failure=False)
    except Exception:  # not kept, for example if another client set the state
        return None
    return result if isinstance(result, BaseException) else None
