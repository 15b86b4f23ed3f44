"""`stepfold ui`: the tracker's pages of all runs, on this machine only."""

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from flows.cli.console import open_console
from flows.cli.options import RunsProfile

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
    """Serve the pages of MLflow or TensorBoard on this machine, until Ctrl-C.

    Example: stepfold ui --run-dir runs/digits
    """
    from flows.cli.request import find_run, read_profile, runs_root
    from flows.orchestration.server import check_port, child_process, wait_until_up
    from infra.process.environment import set_environment_defaults, set_private_umask
    from infra.tracking import charts_url, ui_server

    set_environment_defaults()
    tracking = read_profile(profile).tracking
    root = find_run(run_dir, profile).parent if run_dir else runs_root(profile)
    server = ui_server(tracking, root, port)
    check_port(port)
    set_private_umask()
    console = open_console()
    log = root / f"{tracking.kind}-ui.log"
    url = f"http://127.0.0.1:{port}"
    with child_process(server.command, log, server.environment) as process:
        with console.status(Text(f"Starting {tracking.title} at {url} ...")):
            wait_until_up(process, f"{url}{server.health}", _START_TIMEOUT_S, log)
        page = charts_url(tracking, run_dir.absolute(), port) if run_dir else url
        console.print(Text(page or url, style="name"), soft_wrap=True)
        console.print(Text("Ctrl-C stops it.", style="quiet"))
        try:
            process.wait()
        except KeyboardInterrupt:
            console.print("Stopped.")
