"""Where in Prefect's pages a flow run is found."""

import os
from typing import Any


def flow_run_page(flow_run_id: Any) -> str | None:
    """The address of a flow run's page; None where the server ends with the run."""
    if not os.environ.get("PREFECT_API_URL") or not flow_run_id:
        return None
    from prefect.utilities.urls import url_for

    return url_for("flow-run", obj_id=flow_run_id, default_base_url=pages())


def pages() -> str:
    """The address of Prefect's pages: beside its API, unless Prefect was told otherwise."""
    api = os.environ.get("PREFECT_API_URL", "")
    return os.environ.get("PREFECT_UI_URL") or api.removesuffix("/").removesuffix("/api")


def flow_run_marks() -> dict[str, str]:
    """Tags by which MLflow names the flow run that is going on; {} outside of one."""
    from prefect.runtime import flow_run

    page = flow_run_page(flow_run.id)
    marks = {"prefect.flow_run": str(flow_run.id)} if flow_run.id else {}
    return {**marks, "prefect.page": page} if page else marks
