"""Servers: child processes of ours, Prefect's server and its pages, and a run that loses it."""

import atexit
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

from flows.isolation import start_file
from pipeline.errors import ConfigError, InfraError

Process = subprocess.Popen[bytes]


@contextmanager
def child_process(
    command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Process]:
    """Run a command while the block runs, in its own process group.

    Ctrl-C therefore reaches only this process, which stops the child at the end of the block.

    Args:
        command: command and arguments.
        log: file to which its output is appended.
        environment: variables added to the environment of this process.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as sink:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
    try:
        yield process
    finally:
        _stop(process)


def wait_until_up(process: Process, url: str, timeout: float, log: Path) -> None:
    """Wait until a server responds at `url`.

    Raises:
        InfraError: the process ended, or did not respond within `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while not is_up(url):
        if process.poll() is not None:
            raise InfraError(
                f"{url}: the server ended with code {process.returncode} during its start; "
                f"see {log}"
            )
        if time.monotonic() > deadline:
            raise InfraError(f"{url}: the server did not respond within {timeout:.0f} s; see {log}")
        time.sleep(0.3)


def is_up(url: str) -> bool:
    """Whether a GET request to `url` returns status 200."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310 (callers use http)
            return bool(response.status == 200)
    except (OSError, ValueError):
        return False


def check_port(port: int) -> None:
    """Check that no other program uses a port.

    Raises:
        ConfigError: the port is in use.
    """
    if not is_free(port):
        raise ConfigError(f"--port: {port} is in use by another program; choose another port")


def is_free(port: int) -> bool:
    """Whether a server can listen on this port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _stop(process: Process) -> None:
    if process.poll() is not None:
        return
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


_START_TIMEOUT_S = 180.0  # the first start creates the database


@dataclass(frozen=True)
class PrefectServer:
    """A Prefect server that responds.

    Attributes:
        api_url: URL of its API.
        origin: `configured` by PREFECT_API_URL, already `running` on the port, or `started` as a
            child process.
    """

    api_url: str
    origin: Literal["configured", "running", "started"]


@contextmanager
def prefect_server(port: int, log: Path) -> Iterator[PrefectServer]:
    """Find or start a Prefect server, and set PREFECT_API_URL to it while the block runs.

    Call before importing `prefect`, which reads its settings on import.

    Raises:
        ConfigError: the server of PREFECT_API_URL does not respond, or the port is in use.
        InfraError: the server did not start.
    """
    given = os.environ.get("PREFECT_API_URL")
    if given:
        if not is_up(f"{given}/health"):
            raise ConfigError(
                f"PREFECT_API_URL: {given} does not respond; start that server, or unset the "
                "variable to start a local server"
            )
        yield PrefectServer(api_url=given, origin="configured")
        return
    url = f"http://127.0.0.1:{port}/api"
    os.environ["PREFECT_API_URL"] = url
    try:
        if is_up(f"{url}/health"):
            yield PrefectServer(api_url=url, origin="running")
            return
        check_port(port)
        command = [sys.executable, start_file(), "-m", "prefect", "server", "start"]
        command += ["--host", "127.0.0.1", "--port", str(port)]
        # the URL that the UI requests; its default is wrong on another port than 4200
        ui = {"PREFECT_SERVER_UI_API_URL": url}
        with child_process(command, log, ui) as process:
            wait_until_up(process, f"{url}/health", _START_TIMEOUT_S, log)
            yield PrefectServer(api_url=url, origin="started")
    finally:
        del os.environ["PREFECT_API_URL"]


SERVER_FACTORY = "prefect.server.api.server:create_app"
"""An argument in the command line of a temporary server."""

# as Prefect starts one itself: without pages, telemetry and services for deployments
_TEMPORARY_SETTINGS = {
    "PREFECT_UI_ENABLED": "0",
    "PREFECT__SERVER_EPHEMERAL": "1",
    "PREFECT__SERVER_FINAL": "1",
}

_temporary: list["TemporaryServer"] = []  # those of this process; all but the last have ended


@dataclass(frozen=True)
class TemporaryServer:
    """A Prefect server without pages for the flows of this process, which may still be starting."""

    process: Process
    api_url: str

    def wait(self, log: Path) -> None:
        """Wait until the server responds.

        Args:
            log: file with the output of the server, for the message.

        Raises:
            InfraError: the server did not start.
        """
        wait_until_up(self.process, f"{self.api_url}/health", _START_TIMEOUT_S, log)

    def stop(self) -> None:
        """Stop the server."""
        self.process.terminate()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def start_temporary_server() -> TemporaryServer | None:
    """Start a Prefect server in the background, unless the user has configured one.

    A flow would start the same server itself, but only when it begins; this one starts while the
    modules of the flow are imported, and spares this process the import of Prefect's server. It
    stops when the process exits, after Prefect has sent its last logs.
    """
    if configured_api_url():
        return None
    if _temporary and _temporary[-1].process.poll() is None:
        return _temporary[-1]
    port = _free_port()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "uvicorn", "--factory", SERVER_FACTORY),
            *("--host", "127.0.0.1", "--port", str(port)),
            *("--log-level", "error", "--lifespan", "on"),
        ],
        stdin=subprocess.DEVNULL,
        env={**os.environ, **_TEMPORARY_SETTINGS},
    )
    server = TemporaryServer(process, f"http://127.0.0.1:{port}/api")
    _temporary.append(server)
    atexit.register(server.stop)
    return server


@contextmanager
def use_server(server: TemporaryServer | None) -> Iterator[None]:
    """Use a temporary server for the flows that start in the block; None for the configured one."""
    if server is None:
        yield
        return
    from prefect.context import refresh_global_settings_context
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    os.environ["PREFECT_API_URL"] = server.api_url
    refresh_global_settings_context()  # threads of Prefect read these settings
    try:
        # nobody watches the heartbeats on this server, and each flow would end a second later
        with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
            yield
    finally:
        del os.environ["PREFECT_API_URL"]
        refresh_global_settings_context()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def configured_api_url() -> str | None:
    """Return the API URL of the user's own Prefect server; None if there is none."""
    from prefect.settings import get_current_settings

    url = get_current_settings().api.url
    return None if url in (None, *(server.api_url for server in _temporary)) else str(url)


def flow_run_url(flow_run_id: Any) -> str | None:
    """Return the URL of a flow run's page; None if the server ends with the run."""
    if not flow_run_id or not configured_api_url():
        return None
    from prefect.utilities.urls import url_for

    return url_for("flow-run", obj_id=flow_run_id, default_base_url=ui_url())


def ui_url() -> str:
    """Return the URL of the Prefect UI: PREFECT_UI_URL, or the server of PREFECT_API_URL."""
    api = os.environ.get("PREFECT_API_URL", "")
    return os.environ.get("PREFECT_UI_URL") or api.removesuffix("/").removesuffix("/api")


def flow_run_tags() -> dict[str, str]:
    """Return MLflow tags that identify the current flow run; empty outside of a flow run."""
    from prefect.runtime import flow_run

    page = flow_run_url(flow_run.id)
    tags = {"prefect.flow_run": str(flow_run.id)} if flow_run.id else {}
    return {**tags, "prefect.page": page} if page else tags


_SECOND = "STEPFOLD_SECOND_START"


def is_server_lost(error: BaseException) -> bool:
    """Whether a flow failed because its server was unreachable, and was not restarted before."""
    from httpx import TransportError
    from prefect.exceptions import PrefectHTTPStatusError

    lost = (TransportError, PrefectHTTPStatusError)
    return _SECOND not in os.environ and any(isinstance(each, lost) for each in _causes(error))


def restart_driver(command: str) -> NoReturn:
    """Replace this process by `command`, a shell command line, without PREFECT_API_URL.

    Without a server, the running stage can finish but no other stage can start. The ledger records
    what is done, so the same command, with a temporary local server, continues from there.
    """
    for server in _temporary:
        server.stop()
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    words = [sys.executable, start_file(), *shlex.split(command)[1:]]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, words, {**environment, _SECOND: "1"})  # noqa: S606 (no shell)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Iterate over an error, its causes and contexts, and the members of groups."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        each = waiting.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        waiting += [each.__cause__, each.__context__]
        waiting += each.exceptions if isinstance(each, BaseExceptionGroup) else []
