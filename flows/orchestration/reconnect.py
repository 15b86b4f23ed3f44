"""Going on when the Prefect server goes away in the middle of a run.

Stages finish without it, but no next one begins. What is done is decided by the ledger, so the same
command, started again with a server of its own, goes on from there.
"""

import os
import shlex
import sys
from collections.abc import Iterator
from typing import NoReturn

_SECOND = "STEPFOLD_SECOND_START"


def is_lost(error: BaseException) -> bool:
    """Whether a flow ended because its Prefect server does not answer, for the first time."""
    from httpx import TransportError
    from prefect.exceptions import PrefectHTTPStatusError

    lost = (TransportError, PrefectHTTPStatusError)
    return _SECOND not in os.environ and any(isinstance(each, lost) for each in _causes(error))


def start_again(command: str) -> NoReturn:
    """Replace this process by `command`, as typed, with a Prefect server of its own."""
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    words = [sys.executable, "-m", "flows.cli.app", *shlex.split(command)[1:]]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, words, {**environment, _SECOND: "1"})  # noqa: S606 (ours, no shell)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it came from; a group holds several."""
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
