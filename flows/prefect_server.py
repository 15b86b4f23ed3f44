"""A Prefect server that outlives a flow run: the one the user has, or one started here."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.errors import ConfigError, InfraError

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
        ConfigError: PREFECT_API_URL names a server that does not answer.
        InfraError: no server could be started on the port.
    """
    given = os.environ.get("PREFECT_API_URL")
    if given:
        if not is_healthy(given):
            raise ConfigError(
                f"PREFECT_API_URL={given} does not answer; start that server, or unset the "
                "variable to have one started here"
            )
        yield Server(api_url=given, origin="yours")
        return
    url = f"http://127.0.0.1:{port}/api"
    os.environ["PREFECT_API_URL"] = url
    try:
        if is_healthy(url):
            yield Server(api_url=url, origin="found")
            return
        with _started(port, url, log):
            yield Server(api_url=url, origin="started")
    finally:
        del os.environ["PREFECT_API_URL"]


def is_healthy(api_url: str) -> bool:
    """Whether a Prefect API answers at this address."""
    try:
        with urllib.request.urlopen(f"{api_url}/health", timeout=5) as answer:  # noqa: S310
            return bool(answer.status == 200 and answer.read().strip() == b"true")
    except (OSError, ValueError):
        return False


@contextmanager
def _started(port: int, url: str, log: Path) -> Iterator[None]:
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "prefect", "server", "start"]
    # the page asks the API at this address; without it a port of our own gives a blank page
    environment = os.environ | {"PREFECT_SERVER_UI_API_URL": url}
    with log.open("ab") as sink:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            env=environment,
            start_new_session=True,  # Ctrl-C is for us; we stop it when our work has stopped
        )
    try:
        _wait(process, url, port, log)
        yield
    finally:
        _stop(process)


def _wait(process: "subprocess.Popen[bytes]", url: str, port: int, log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise InfraError(
                f"the Prefect server ended with code {process.returncode} before it answered; port "
                f"{port} may be taken (choose another with --port), or see {log}"
            )
        if is_healthy(url):
            return
        time.sleep(0.3)
    raise InfraError(f"the Prefect server did not answer within {_PATIENCE:.0f} s; see {log}")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
