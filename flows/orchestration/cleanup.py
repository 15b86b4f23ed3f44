"""Flow runs whose driver was killed: Prefect shows them as running for ever, unless told."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from flows.orchestration import settings
from infra.ray.cluster import clear_dead_session
from pipeline.identity import from_tag, identify

FLOWS = ("full-distillation", "train-teacher", "round")

_PAGE = 200


def crash_dead_flow_runs(run_dir: Path) -> int:
    """Mark the flow runs of a run directory as crashed that cannot be running; how many.

    Asks the server that PREFECT_API_URL names. Without one, Prefect's local database is asked by
    way of a server that lives as long as this process, if there is such a database.

    Args:
        run_dir: the run directory, absolute; the caller holds it, so nobody else is at work in it.

    Raises:
        InfraError: Prefect does not answer.
    """
    settings.settle()
    from prefect.settings import get_current_settings

    if not os.environ.get("PREFECT_API_URL") and not _has_database(get_current_settings().home):
        return 0
    return _crash(run_dir)


def _has_database(home: Path) -> bool:
    elsewhere = os.environ.get("PREFECT_API_DATABASE_CONNECTION_URL") or os.environ.get(
        "PREFECT_SERVER_DATABASE_CONNECTION_URL"
    )
    return bool(elsewhere) or (home / "prefect.db").is_file()


def _crash(run_dir: Path) -> int:
    from httpx import HTTPError
    from prefect.client.orchestration import get_client
    from prefect.exceptions import PrefectException
    from prefect.states import Crashed

    from pipeline.errors import InfraError

    try:
        with get_client(sync_client=True) as client:
            dead = [found for found in _running(client) if _is_dead(found, run_dir)]
            for flow_run in dead:
                message = "its driver was gone when the run directory was looked after"
                client.set_flow_run_state(flow_run.id, Crashed(message=message))
    except (HTTPError, PrefectException, RuntimeError) as error:
        where = os.environ.get("PREFECT_API_URL", "its own server")
        raise InfraError(
            f"Prefect at {where} does not answer ({error}); flow runs are left as they are, run "
            "stepfold reap again when it does"
        ) from None
    return len(dead)


def _running(client: Any) -> Iterator[Any]:
    from prefect.client.schemas.filters import (
        FlowFilter,
        FlowFilterName,
        FlowRunFilter,
        FlowRunFilterState,
        FlowRunFilterStateType,
    )
    from prefect.client.schemas.objects import StateType

    # paused: its driver was killed while it waited for a person's answer
    at_work = [StateType.RUNNING, StateType.PENDING, StateType.PAUSED]
    kinds = FlowRunFilterStateType(any_=at_work)
    offset = 0
    while True:
        page = client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=list(FLOWS))),
            flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=kinds)),
            limit=_PAGE,
            offset=offset,
        )
        yield from page
        offset += len(page)
        if len(page) < _PAGE:
            return


def _is_dead(flow_run: Any, run_dir: Path) -> bool:
    """Of this directory, and its driver is gone.

    A driver that has just begun does not hold its directory yet; its tag says that it lives. Where
    there is no tag, because a deployment started the flow, the directory being free decides.
    """
    drivers = [driver for tag in flow_run.tags if (driver := from_tag(tag))]
    if any(driver.is_alive is not False for driver in drivers):
        return False
    return _place_of(flow_run.parameters) == str(run_dir)


def _place_of(parameters: dict[str, Any]) -> str:
    """The run directory that a flow was called with, as `flows.run.run_path` finds it."""
    run = parameters.get("run")
    if isinstance(run, dict):
        return str(run.get("path", ""))
    given = parameters.get("run_dir") or ""
    if given:
        return str(Path(given).absolute())
    try:
        root = (parameters.get("profile") or {}).get("storage", {}).get("root", "runs")
        return str((Path(root) / parameters["recipe"]["run"]["name"]).absolute())
    except (KeyError, TypeError, AttributeError):
        return ""


VARIABLE = "STEPFOLD_DRIVER"

_WORD = "prefect.server.api.server:create_app"  # of its command line

_PATIENCE_S = 10.0


def sign_children() -> None:
    """Let whatever this process starts from here on say whose it is."""
    os.environ[VARIABLE] = identify().tag


def bury(run_dir: Path) -> list[str]:
    """End and remove what killed drivers left; what that was.

    Args:
        run_dir: the run directory whose last driver left a folder of Ray; nobody else is at work in
            it. Servers are ended if their driver is dead, of whatever run it was.
    """
    done = []
    ended = _end_servers()
    if ended:
        done.append(f"{ended} Prefect server{'s' if ended > 1 else ''} ended")
    if clear_dead_session(run_dir / "logs"):
        done.append("1 folder of Ray removed")
    return done


def _end_servers() -> int:
    orphans = list(servers_of_the_dead())
    for process in orphans:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    _, stubborn = psutil.wait_procs(orphans, timeout=_PATIENCE_S)
    for process in stubborn:
        with contextlib.suppress(psutil.Error):
            process.kill()
    return len(orphans)


def servers_of_the_dead() -> Iterator[psutil.Process]:
    """Prefect servers on this machine whose drivers are gone."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):  # it ended meanwhile, or is another user's
            if _WORD not in process.cmdline():
                continue
            driver = from_tag(process.environ().get(VARIABLE, ""))
            if driver is not None and driver.is_alive is False:
                yield process
