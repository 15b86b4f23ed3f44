"""Continue a run whose Prefect server became unreachable.

Without a server, the running stage can finish but no other stage can start. The ledger records what
is done, so the same command, restarted with a temporary local server, continues from there.
"""

import os
import shlex
import sys
from collections.abc import Iterator
from typing import NoReturn

_SECOND = "STEPFOLD_SECOND_START"


def is_server_lost(error: BaseException) -> bool:
    """Whether a flow failed as its server was unreachable, and was not restarted for it before."""
    from httpx import TransportError
    from prefect.exceptions import PrefectHTTPStatusError

    lost = (TransportError, PrefectHTTPStatusError)
    return _SECOND not in os.environ and any(isinstance(each, lost) for each in _causes(error))


def restart_driver(command: str) -> NoReturn:
    """Replace this process by `command`, a shell command line, without PREFECT_API_URL."""
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    words = [sys.executable, "-m", "flows.cli.app", *shlex.split(command)[1:]]
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
