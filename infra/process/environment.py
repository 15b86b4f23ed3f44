"""What every process settles before anything heavy is imported: no telemetry, noise or secrets.

Every variable is a default: what the user has set stays. Imports nothing that reads them.
"""

import os

from pipeline.redaction import redact_logs

_PRIVACY = {
    "DO_NOT_TRACK": "true",  # MLflow wants the word, Prefect takes it too
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}

_SAFETY = {
    "DIFFUSERS_DISABLE_REMOTE_CODE": "1",  # models are data
    "WDS_SECURE": "1",  # no `pipe:` URLs, which run a shell
}

_QUIET = {
    "RAY_DEDUP_LOGS": "1",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # dead or finished workers are seen this soon
    # a dead server must fail a call in seconds, not stall it for minutes
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",  # it tells of each package that it could also use
    "GIT_PYTHON_REFRESH": "quiet",
}


def settle_environment() -> None:
    """Set every default that the environment does not set already, and redact what is logged."""
    redact_logs()
    for name, value in {**_PRIVACY, **_SAFETY, **_QUIET}.items():
        os.environ.setdefault(name, value)


def keep_private() -> None:
    """From now on, files that this process and its children make are their user's alone."""
    os.umask(0o077)
