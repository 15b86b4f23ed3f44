"""Call a Prefect server's API like its own client."""

from typing import Any

from prefect.client.base import PrefectHttpxSyncClient


def ask(api: str, path: str, **content: object) -> Any:
    """Return the response of the server at `api` to a POST of `content`.

    A server that was started after our environment was set accepts requests from a client with a
    token alone; the client fetches it.
    """
    with PrefectHttpxSyncClient(base_url=api, enable_csrf_support=True) as client:
        return client.post(f"/{path}", json=content).raise_for_status().json()
