"""Where in Prefect's pages a run is found, and MLflow's pages from there."""

import os


def flow_run_marks() -> dict[str, str]:
    """Tags by which MLflow names the flow run that is going on; {} outside of one.

    A server of the run's own has no page that outlives it, so there is no address then.
    """
    from prefect.runtime import flow_run
    from prefect.utilities.urls import url_for

    run_id = flow_run.id
    if not run_id:
        return {}
    marks = {"prefect.flow_run": str(run_id)}
    if os.environ.get("PREFECT_API_URL"):
        page = url_for("flow-run", obj_id=run_id, default_base_url=_pages())
        marks |= {"prefect.page": page} if page else {}
    return marks


def _pages() -> str:
    """Prefect's pages, which lie beside its API unless they were told otherwise."""
    return os.environ["PREFECT_API_URL"].removesuffix("/").removesuffix("/api")
