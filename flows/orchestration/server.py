"""A server started here: its output in a log, its life no longer than ours."""

import os
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
from typing import Literal

from pipeline.errors import ConfigError, InfraError

Process = subprocess.Popen[bytes]


@contextmanager
def child(
    command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Process]:
    """Run a command for the duration, in a process group of its own.

    Ctrl-C is for us: we stop the child when our own work has stopped.

    Args:
        command: what to start.
        log: gets its output, appended.
        environment: added to ours.
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


def wait_for(process: Process, url: str, patience: float, log: Path) -> None:
    """Wait until a server answers.

    Raises:
        InfraError: it ended, or did not answer within `patience` seconds.
    """
    deadline = time.monotonic() + patience
    while not answers(url):
        if process.poll() is not None:
            raise InfraError(
                f"the server ended with code {process.returncode} before it answered at {url}; "
                f"see {log}"
            )
        if time.monotonic() > deadline:
            raise InfraError(f"{url} did not answer within {patience:.0f} s; see {log}")
        time.sleep(0.3)


def answers(url: str) -> bool:
    """Whether a server says 200 at this address."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 (http, by its callers)
            return bool(answer.status == 200)
    except (OSError, ValueError):
        return False


def check_port(port: int) -> None:
    """Refuse a port that something else listens on.

    Raises:
        ConfigError: it is taken.
    """
    if not is_free(port):
        raise ConfigError(f"port {port} is taken by another program; choose one with --port")


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of 127.0.0.1."""
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


_PATIENCE = 180.0  # seconds; a first start makes its database


@dataclass(frozen=True)
class Server:
    """A server that answers.

    Attributes:
        api_url: address of its API.
        origin: `yours` is named by PREFECT_API_URL, `found` was running on the port, `started` is
            ours and stops with us.
    """

    api_url: str
    origin: Literal["yours", "found", "started"]


@contextmanager
def server(port: int, log: Path) -> Iterator[Server]:
    """Have a Prefect server for the duration, and PREFECT_API_URL pointing to it.

    Call before `prefect` is imported: it reads its settings then.

    Raises:
        ConfigError: PREFECT_API_URL names a server that does not answer, or the port is taken.
        InfraError: no server could be started.
    """
    given = os.environ.get("PREFECT_API_URL")
    if given:
        if not answers(f"{given}/health"):
            raise ConfigError(
                f"PREFECT_API_URL={given} does not answer; start that server, or unset the "
                "variable to have one started here"
            )
        yield Server(api_url=given, origin="yours")
        return
    url = f"http://127.0.0.1:{port}/api"
    os.environ["PREFECT_API_URL"] = url
    try:
        if answers(f"{url}/health"):
            yield Server(api_url=url, origin="found")
            return
        check_port(port)
        command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1"]
        # the page asks the API at this address; without it a port of our own gives a blank page
        page = {"PREFECT_SERVER_UI_API_URL": url}
        with child([*command, "--port", str(port)], log, page) as process:
            wait_for(process, f"{url}/health", _PATIENCE, log)
            yield Server(api_url=url, origin="started")
    finally:
        del os.environ["PREFECT_API_URL"]
