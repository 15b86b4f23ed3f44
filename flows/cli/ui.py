"""`stepfold ui`: the MLflow pages of all runs, on this machine only."""

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from flows.cli.console import open_console
from flows.cli.exit_codes import refusals
from flows.cli.options import RunsProfile
from pipeline.errors import ConfigError
from pipeline.wording import format_path

_START_TIMEOUT_S = 180.0


def ui(
    run_dir: Annotated[
        Path | None,
        typer.Option(
            "--run-dir", "-d", metavar="DIR", help="Run directory to open. Default: all runs."
        ),
    ] = None,
    profile: RunsProfile = None,
    port: Annotated[int, typer.Option(help="Port of the pages, on 127.0.0.1 only.")] = 5000,
) -> None:
    """Serve the MLflow pages of all runs on this machine, until Ctrl-C.

    Example: stepfold ui --run-dir runs/digits
    """
    with refusals():
        serve_ui(run_dir, profile, port)


def serve_ui(run_dir: Path | None, profile_path: Path | None, port: int) -> None:
    """Start MLflow's server and wait for Ctrl-C.

    Raises:
        ConfigError: no run was tracked yet, or the port is in use.
        InfraError: MLflow's server did not start.
    """
    from flows.cli.request import find_run, read_profile, runs_root
    from flows.orchestration.server import check_port, child_process, wait_until_up
    from flows.tracking.mlflow_links import charts_url
    from infra.mlflow.pages import SERVER_SETTINGS, default_uri, ui_command
    from infra.process.environment import set_private_umask

    profile = read_profile(profile_path)
    root = find_run(run_dir, profile_path).parent if run_dir else runs_root(profile_path)
    given = profile.tracking.address
    artifacts = None if given else root / "mlflow-artifacts"
    if artifacts and not (root / "mlflow.db").is_file():
        raise ConfigError(
            f"{format_path(root)} has no MLflow history; start a run, or name one with --run-dir"
        )
    check_port(port)
    set_private_umask()
    console = open_console()
    log = root / "mlflow-ui.log"
    url = f"http://127.0.0.1:{port}"
    # an address may hold a password, and every user can read the arguments of a process
    store = {"MLFLOW_BACKEND_STORE_URI": given or default_uri(root), **SERVER_SETTINGS}
    with child_process(ui_command(artifacts, port), log, store) as process:
        with console.status(Text(f"Starting MLflow at {url} ...")):
            wait_until_up(process, f"{url}/health", _START_TIMEOUT_S, log)
        page = charts_url(profile, run_dir.absolute(), port) if run_dir else url
        console.print(Text(page, style="name"), soft_wrap=True)
        console.print(Text("Ctrl-C stops it.", style="quiet"))
        try:
            process.wait()
        except KeyboardInterrupt:
            console.print("Stopped.")
