"""Links to runs in the MLflow UI."""

from pathlib import Path

from infra.mlflow.pages import chart_page
from infra.mlflow.store import MlflowStore
from pipeline.config.profile import Profile
from pipeline.errors import InfraError
from pipeline.redaction import redact

UI_PORT = 5000


def charts_url(profile: Profile, run_dir: Path, port: int = UI_PORT) -> str:
    """Return the URL of the charts of a run's rounds in the MLflow UI.

    Without an MLflow server in the profile, the URL works while `stepfold ui` runs.
    """
    uri = profile.tracking.address
    host = redact(uri).rstrip("/") if uri and uri.startswith("http") else f"http://127.0.0.1:{port}"
    try:
        store = MlflowStore(uri, run_dir.parent, profile.tracking.experiment)
        chain_id = store.find(str(run_dir))
    except InfraError:
        return host
    return f"{host}/{chart_page(store.experiment_id, chain_id)}" if chain_id else host
