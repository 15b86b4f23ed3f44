"""A failure reaches people: through a notification block of Prefect's, from the run itself.

Prefect keeps such a block, with its address and secrets, in its database; a profile only names it.
A server that outlives its runs can tell people by an automation instead, which also notices drivers
that were killed.
"""

import logging
import platform
import textwrap
from pathlib import Path
from typing import Any

from flows.events import Events
from flows.prefect_lost import is_lost
from flows.prefect_pages import flow_run_page
from flows.silence import silenced
from pipeline.errors import BusyError, ConfigError
from pipeline.redaction import redact

_LONGEST = 600  # characters of an error; the log has all of it

_log = logging.getLogger(__name__)


def tell_failure(flow: Any, flow_run: Any, state: Any) -> None:
    """Tell people that a run failed, if its profile says whom; a hook of Prefect's flows.

    Not told: that somebody pressed Ctrl-C, that another run is at work in the directory, that the
    Prefect server went away, after which the run goes on without it.
    """
    block = _block_of(flow_run)
    error = _cause(state)
    if block is None or isinstance(error, KeyboardInterrupt | BusyError):
        return
    if error is not None and is_lost(error):
        return
    subject = f"Stepfold: {flow_run.name} {state.name.lower()}"
    tell(block, subject, _words(flow, flow_run, state, error))


def tell(block: str, subject: str, body: str) -> bool:
    """Send a message through a notification block; whether it went. Failing is only logged."""
    try:
        send(block, subject, body)
    except Exception as error:  # nothing but a message is lost
        # of its own words none: they hold the address
        _log.warning("nobody was told through %s: %s", block, type(error).__name__)
        return False
    _log.info("told through %s: %s", block, subject)
    return True


def send(block: str, subject: str, body: str) -> None:
    """Send a message through a notification block of this Prefect.

    Raises:
        ConfigError: there is no such block.
        Exception: whatever the service or the network answers; its text may hold the address.
    """
    from prefect.blocks.abstract import NotificationBlock
    from prefect.blocks.core import Block

    import flows.smtp_email  # noqa: F401 (registers its kind, and all of Prefect's)

    with silenced():
        try:
            loaded: Any = Block.load(block)
        except ValueError:
            raise ConfigError(
                f"notify.block: this Prefect has no block {block!r}; make it with "
                f"`stepfold notify {block} --address-from VARIABLE`, or in Prefect's pages"
            ) from None
        if not isinstance(loaded, NotificationBlock):
            raise ConfigError(f"notify.block: {block} is no notification block")
        told: Any = loaded
        with told.raise_on_failure():  # most kinds keep to themselves that nothing went
            told.notify(redact(body), redact(subject))


def _words(flow: Any, flow_run: Any, state: Any, error: BaseException | None) -> str:
    run_dir = str((flow_run.parameters or {}).get("run_dir") or "")
    what = f"{type(error).__name__}: {error}" if error is not None else str(state.message)
    lines = [textwrap.shorten(what, _LONGEST), ""]
    if run_dir:
        where = _stage_of(Path(run_dir))
        lines += [f"In: {where}"] if where else []
        lines += [f"Directory: {platform.node()}:{run_dir}", f"Log: {run_dir}/logs/run.log"]
    page = flow_run_page(flow_run.id)
    lines += [f"Prefect: {page}"] if page else []
    lines += ["", f"The same `stepfold run` goes on from where it stopped ({flow.name})."]
    return "\n".join(lines)


def _stage_of(run_dir: Path) -> str:
    """The stage that began last, in which a run must have failed."""
    events, _ = Events(run_dir).read()
    return next((event.label for event in reversed(events) if event.kind == "stage_started"), "")


def _block_of(flow_run: Any) -> str | None:
    profile = (flow_run.parameters or {}).get("profile")
    notify = profile.get("notify") if isinstance(profile, dict) else None
    return notify.get("block") if isinstance(notify, dict) else None


def _cause(state: Any) -> BaseException | None:
    try:
        result = state.result(raise_on_failure=False)
    except Exception:  # it is not kept, as when somebody else set the state
        return None
    return result if isinstance(result, BaseException) else None
