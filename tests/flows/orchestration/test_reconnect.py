"""Which errors mean that the Prefect server is unreachable."""

import httpx
import pytest

from flows.orchestration.reconnect import is_server_lost
from pipeline.errors import InfraError


def raised(error: Exception, cause: Exception | None = None) -> Exception:
    try:
        raise error from cause
    except Exception as caught:
        return caught


@pytest.mark.parametrize(
    "error",
    [
        httpx.ConnectError("refused"),
        raised(RuntimeError("flow crashed"), httpx.ReadTimeout("slow")),
        ExceptionGroup("both", [ValueError("one"), httpx.RemoteProtocolError("gone")]),
    ],
    ids=["itself", "cause", "group"],
)
def test_an_unreachable_server_is_lost_once(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert is_server_lost(error)
    monkeypatch.setenv("STEPFOLD_SECOND_START", "1")
    assert not is_server_lost(error)


@pytest.mark.parametrize("error", [ValueError("ours"), raised(InfraError("Ray"), OSError("pipe"))])
def test_other_failures_are_not_a_lost_server(error: Exception) -> None:
    assert not is_server_lost(error)
