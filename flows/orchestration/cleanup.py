"""Clean up after killed drivers: flow runs still shown as running, servers, and Ray folders."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from flows.orchestration import settings
from flows.orchestration.server import SERVER_FACTORY
from infra.ray.cluster import remove_dead_session
from pipeline.identity import from_tag, identify
from pipeline.run_dir.layout import RunDir
from pipeline.run_dir.run_id import recorded_id
from pipeline.wording import format_count

FLOWS = ("full-distillation", "train-teacher", "round")

_PAGE = 200


def crash_dead_flow_runs(run_dir: Path) -> int:
    """Mark the flow runs of killed drivers of a run directory as crashed.

    Uses the server of PREFECT_API_URL; without one, Prefect's local database, if it exists, through
    a temporary server.

    Args:
        run_dir: run directory, absolute and locked by the caller.

    Returns:
        The number of crashed flow runs.

    Raises:
        InfraError: the Prefect server does not respond.
    """
    settings.set_defaults()
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
                message = "the driver process was killed"
                client.set_flow_run_state(flow_run.id, Crashed(message=message))
    except (HTTPError, PrefectException, RuntimeError) as error:
        where = os.environ.get("PREFECT_API_URL", "a temporary server")
        raise InfraError(
            f"Prefect at {where} does not respond, so flow runs were not changed ({error}); run "
            "`stepfold clean --stale` again when it does"
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

    # a driver can also be killed while its flow run is paused for approval
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
    """Whether a flow run belongs to this directory and its driver has ended.

    A driver that has just started has not locked its directory yet, but the tag of its flow run
    identifies it. Without a tag (flows started by a deployment), the free lock decides.
    """
    drivers = [driver for tag in flow_run.tags if (driver := from_tag(tag))]
    if any(driver.is_alive is not False for driver in drivers):
        return False
    return _is_of(flow_run.parameters, run_dir)


def _is_of(parameters: dict[str, Any], run_dir: Path) -> bool:
    """Whether flow parameters are of this run, also if its directory was moved since."""
    recorded, run = recorded_id(run_dir), parameters.get("run")
    if recorded and isinstance(run, dict) and run.get("id"):
        return bool(run["id"] == recorded.id)
    found = _run_dir_of(parameters)
    was_moved = recorded is not None and not Path(recorded.path).exists()
    return found == str(run_dir) or (was_moved and recorded is not None and found == recorded.path)


def _run_dir_of(parameters: dict[str, Any]) -> str:
    """Return the run directory of flow parameters, like `flows.run.resolve_run_dir`."""
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


DRIVER_VARIABLE, ROOT_VARIABLE = "STEPFOLD_DRIVER", "STEPFOLD_RUN_ROOT"

_TERMINATE_TIMEOUT_S = 10.0


def tag_child_processes(run_dir: Path) -> None:
    """Identify this process, and the directory of its runs, in the environment of its children."""
    os.environ[DRIVER_VARIABLE] = identify().tag
    os.environ[ROOT_VARIABLE] = str(run_dir.absolute().parent.resolve())


def remove_leftovers(run_dir: Path) -> list[str]:
    """Stop Prefect servers of killed drivers, and remove the Ray folder of this run.

    Args:
        run_dir: run directory, locked by the caller.

    Returns:
        A description of each removed kind.
    """
    done = []
    stopped = _stop(list(abandoned_servers(run_dir)))
    if stopped:
        done.append(f"{format_count(stopped, 'Prefect server')} stopped")
    if remove_dead_session(RunDir(run_dir).logs):
        done.append("1 Ray folder removed")
    return done


def _stop(servers: list[psutil.Process]) -> int:
    for process in servers:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    _, alive = psutil.wait_procs(servers, timeout=_TERMINATE_TIMEOUT_S)
    for process in alive:
        with contextlib.suppress(psutil.Error):
            process.kill()
    return len(servers)


def abandoned_servers(run_dir: Path) -> Iterator[psutil.Process]:
    """Find Prefect servers whose drivers have ended, of runs beside this one or of removed ones."""
    own = run_dir.absolute().parent.resolve()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):  # the process ended, or is another user's
            if SERVER_FACTORY not in process.cmdline():
                continue
            variables = process.environ()
            driver, root = (
                from_tag(variables.get(DRIVER_VARIABLE, "")),
                variables.get(ROOT_VARIABLE),
            )
            is_ours = root is not None and (Path(root) == own or not Path(root).is_dir())
            if is_ours and driver is not None and driver.is_alive is False:
                yield process
