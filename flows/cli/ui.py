"""`stepfold ui`: the pages of MLflow, on this machine only, for as long as they are wanted."""

from pathlib import Path

from rich.text import Text

from flows.cli.console import open_console
from flows.orchestration.server import check_port, child, wait_for
from flows.tracking.mlflow_links import history_page
from infra.mlflow.pages import SERVER_SETTINGS, default_uri, ui_command
from infra.process.environment import keep_private
from pipeline.config.profile import Profile, default_profile
from pipeline.documents import build, read_yaml
from pipeline.errors import ConfigError
from pipeline.run_dir.run_status import require_run

_PATIENCE = 180.0  # seconds


def serve_ui(run_dir: Path | None, profile_path: Path | None, port: int) -> None:
    """Serve MLflow's pages until Ctrl-C.

    Raises:
        ConfigError: there is no history yet, or the port is taken.
        InfraError: MLflow's server did not start.
    """
    path = profile_path or default_profile()
    profile = build(Profile, read_yaml(path), str(path))
    root = require_run(run_dir, Path(profile.storage.root)).parent if run_dir else None
    place = (root or Path(profile.storage.root)).absolute()
    given = profile.tracking.address
    artifacts = None if given else place / "mlflow-artifacts"
    if artifacts and not (place / "mlflow.db").is_file():
        raise ConfigError(f"no history in {place} yet; start a run, or name one with --run-dir")
    check_port(port)
    keep_private()
    console = open_console()
    log = place / "mlflow-ui.log"
    url = f"http://127.0.0.1:{port}"
    # an address may hold a password, and everybody sees the arguments of a process
    store = {"MLFLOW_BACKEND_STORE_URI": given or default_uri(place), **SERVER_SETTINGS}
    with child(ui_command(artifacts, port), log, store) as process:
        with console.status(Text(f"Starting MLflow at {url} ...")):
            wait_for(process, f"{url}/health", _PATIENCE, log)
        page = history_page(profile, run_dir.absolute(), port) if run_dir else url
        console.print(Text(page, style="name"), soft_wrap=True)
        console.print(Text("Ctrl-C stops it.", style="quiet"))
        try:
            process.wait()
        except KeyboardInterrupt:
            console.print("Stopped.")
