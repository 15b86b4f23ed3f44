"""Links to flow runs in the Prefect UI."""

import os
from typing import Any


def flow_run_url(flow_run_id: Any) -> str | None:
    """Return the URL of a flow run's page; None if the server ends with the run."""
    if not os.environ.get("PREFECT_API_URL") or not flow_run_id:
        return None
    from prefect.utilities.urls import url_for

    return url_for("flow-run", obj_id=flow_run_id, default_base_url=ui_url())


def ui_url() -> str:
    """Return the URL of the Prefect UI: PREFECT_UI_URL, or the server of PREFECT_API_URL."""
    api = os.environ.get("PREFECT_API_URL", "")
    return os.environ.get("PREFECT_UI_URL") or api.removesuffix("/").removesuffix("/api")


def flow_run_tags() -> dict[str, str]:
    """Return MLflow tags that identify the current flow run; empty outside of a flow run."""
    from prefect.runtime import flow_run

    page = flow_run_url(flow_run.id)
    tags = {"prefect.flow_run": str(flow_run.id)} if flow_run.id else {}
    return {**tags, "prefect.page": page} if page else tags
