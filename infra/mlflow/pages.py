"""MLflow's UI: the command that serves it, and links to its charts and runs."""

import sys
from pathlib import Path
from urllib.parse import quote

CHAIN_TAG = "stepfold.chain"
"""Tag of a chain and of its rounds; its value is the run id of the chain."""

SERVER_SETTINGS = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
"""Settings of a server started here; jobs are not used, and their runners double the start time."""


def default_uri(run_root: Path) -> str:
    """Return the URI of the SQLite store beside the run directories."""
    return f"sqlite:///{run_root.resolve()}/mlflow.db"


def ui_command(artifacts: Path | None, port: int) -> list[str]:
    """Build the command that serves MLFLOW_BACKEND_STORE_URI's UI on loopback only."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1"]
    return [*command, "--default-artifact-root", str(artifacts)] if artifacts else command


def chart_page(experiment_id: str, chain_id: str) -> str:
    """Build the UI path to the charts of a chain and all of its rounds.

    Without an explicit order, the run list hides child runs and ignores the filter.
    """
    run_filter = f'tags.`{CHAIN_TAG}` = "{chain_id}"'
    return (
        f"#/experiments/{experiment_id}/runs?searchFilter={quote(run_filter, safe='')}"
        f"&orderByKey={quote('tags.`round`', safe='')}&orderByAsc=true"
        "&compareRunsMode=CHART&workflowType=machine_learning"
    )
