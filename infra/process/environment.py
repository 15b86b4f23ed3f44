"""Environment defaults of every process, set before heavy imports: no telemetry, noise or secrets.

Variables set by the user are kept. This module imports nothing that reads these variables.
"""

import os

from pipeline.redaction import redact_logs

_PRIVACY = {
    "DO_NOT_TRACK": "true",  # MLflow requires "true", Prefect accepts it
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}

_SAFETY = {
    "DIFFUSERS_DISABLE_REMOTE_CODE": "1",  # bundles hold data only
    "WDS_SECURE": "1",  # no `pipe:` URLs, which run a shell
}

_QUIET = {
    "RAY_DEDUP_LOGS": "1",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # detect dead or finished workers quickly
    # calls to a dead server must fail in seconds, not block for minutes
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",  # else it reports each missing optional package
    "GIT_PYTHON_REFRESH": "quiet",
}


def set_environment_defaults() -> None:
    """Set all defaults that are not set in the environment, and redact secrets in logs."""
    redact_logs()
    for name, value in {**_PRIVACY, **_SAFETY, **_QUIET}.items():
        os.environ.setdefault(name, value)


def set_private_umask() -> None:
    """Make new files of this process and its children accessible to their user only."""
    os.umask(0o077)
