"""Where in MLflow's pages a run is found."""

from pathlib import Path

from infra.mlflow.pages import chart_page
from infra.mlflow.store import MlflowStore
from pipeline.config.profile import Profile
from pipeline.errors import InfraError
from pipeline.redaction import redact

UI_PORT = 5000


def history_page(profile: Profile, run_dir: Path, port: int = UI_PORT) -> str:
    """The address of a chain's rounds, in order.

    It answers while `stepfold ui` runs, or always where the profile names a server.
    """
    uri = profile.tracking.address
    host = redact(uri).rstrip("/") if uri and uri.startswith("http") else f"http://127.0.0.1:{port}"
    try:
        store = MlflowStore(uri, run_dir.parent, profile.tracking.experiment)
        chain_id = store.find(str(run_dir))
    except InfraError:
        return host
    return f"{host}/{chart_page(store.experiment_id, chain_id)}" if chain_id else host
