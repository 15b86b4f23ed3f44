"""MLflow's pages: the command that serves them, and the addresses in them that say the most."""

import sys
from pathlib import Path
from urllib.parse import quote

CHAIN_TAG = "stepfold.chain"
"""A chain and its rounds have it in common; its value is the run id of the chain."""

SERVER_SETTINGS = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
"""Of a server started here: nothing of ours is a job, and its runners double what a start takes."""


def default_uri(run_root: Path) -> str:
    """The SQLite store beside the run directories."""
    return f"sqlite:///{run_root.resolve()}/mlflow.db"


def ui_command(artifacts: Path | None, port: int) -> list[str]:
    """The command that serves the pages of MLFLOW_BACKEND_STORE_URI on this machine only."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1"]
    return [*command, "--default-artifact-root", str(artifacts)] if artifacts else command


def chart_page(experiment_id: str, chain_id: str) -> str:
    """The part of the UI's address after the host: the charts of a chain and all of its rounds.

    The run list folds children away and forgets the filter without an order, so both are said.
    """
    chosen = f'tags.`{CHAIN_TAG}` = "{chain_id}"'
    return (
        f"#/experiments/{experiment_id}/runs?searchFilter={quote(chosen, safe='')}"
        f"&orderByKey={quote('tags.`round`', safe='')}&orderByAsc=true"
        "&compareRunsMode=CHART&workflowType=machine_learning"
    )
