"""Default settings of Prefect, set in the environment before it is imported.

Variables that the user has set are kept. PREFECT_HOME and PREFECT_API_URL are never changed, so
that `prefect flow-run retry` and the UI work from the user's shell.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from infra.process.environment import set_environment_defaults

_DEFAULTS = {
    # Prefect's default of 20 s is too short if two flows start at once on a busy machine
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "true",
    # written to the log of the run, not to the terminal
    "PREFECT_LOGGING_LEVEL": "INFO",
    "PREFECT_LOGGING_COLORS": "false",
    # send our logs to the page of the flow run, except those that infra forwards from Ray
    "PREFECT_LOGGING_EXTRA_LOGGERS": "flows,stages,pipeline",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    # Prefect's minimum in seconds, so that a killed run is detected within minutes
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    "PREFECT_CLI_PROMPT": "false",
    # give up on an unreachable server after 15 s per call instead of one minute
    "PREFECT_CLIENT_MAX_RETRIES": "3",
    # flows persist no results; a deployment that enables them must not write pickle
    "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
    "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
    # protects servers started here from requests of other web pages
    "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
}


def set_defaults() -> None:
    """Set unset variables of Prefect and other libraries; call before importing `prefect`."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    set_environment_defaults()


@contextmanager
def tag_flow_runs(tag: str) -> Iterator[None]:
    """Add a tag to all flow runs that start in the block."""
    set_defaults()
    from prefect import tags

    with tags(tag):
        yield
