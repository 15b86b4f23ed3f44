"""A Prefect server that outlives a flow run: the one the user has, or one started here."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flows.child import answers, check_port, child, wait_for
from pipeline.errors import ConfigError

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
