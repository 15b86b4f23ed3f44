"""What Prefect reads from the environment, settled before it is imported.

Only defaults are set: whatever the user has set wins. PREFECT_HOME and PREFECT_API_URL are never
touched, so that `prefect flow-run retry` and the UI work from the user's own shell.
"""

import os

from infra.process.environment import settle_environment

_DEFAULTS = {
    # two flows starting at once on a busy machine need more than Prefect's 20 s
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "true",
    # shown to nobody, kept in the run's log
    "PREFECT_LOGGING_LEVEL": "INFO",
    "PREFECT_LOGGING_COLORS": "false",
    # what ours say within a flow shows on its page; not what infra passes on from Ray
    "PREFECT_LOGGING_EXTRA_LOGGERS": "flows,stages,pipeline",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    # the least Prefect allows; a killed run is then seen to be dead within minutes, not hours
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    "PREFECT_CLI_PROMPT": "false",
    # a server that went away is asked for 15 s a call, not for a minute: the run goes on without it
    "PREFECT_CLIENT_MAX_RETRIES": "3",
    # nothing of ours is persisted; should a deployment turn it on, it is no pickle
    "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
    "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
    # of servers started here: no other page of a browser may order something
    "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
}


def settle() -> None:
    """Set what is not set yet, Prefect's and everybody else's; call before importing `prefect`."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    settle_environment()
