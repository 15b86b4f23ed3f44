"""`stepfold schedule`: run a recipe at times given by a cron expression."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from flows.cli.console import exclusive_terminal
from flows.cli.options import ComputeProfile, Overrides, RecipeFile
from flows.orchestration import settings
from pipeline.wording import format_path

if TYPE_CHECKING:
    from flows.orchestration.server import PrefectServer
    from flows.scheduled_distillation import HistoryEntry

_ORIGINS = {
    "configured": "given by PREFECT_API_URL; keeps running",
    "running": "already running there; keeps running",
    "started": "started by this command; stops with it",
}
_STYLES = {"started": "default", "resumed": "default", "done": "good", "failed": "bad"}


def schedule(
    recipe: RecipeFile,
    cron: Annotated[
        str, typer.Option(metavar="'0 2 * * *'", help="Cron expression of the start times.")
    ],
    profile: ComputeProfile = None,
    root: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Parent folder of the run directories. Default: the profile's storage.root.",
        ),
    ] = None,
    overrides: Overrides = None,
    timezone: Annotated[
        str, typer.Option(help="Time zone of the cron expression, such as Europe/Berlin.")
    ] = "UTC",
    port: Annotated[
        int, typer.Option(help="Port of the Prefect server, if none is running yet.")
    ] = 4200,
) -> None:
    """Run a recipe on a schedule: resume an unfinished run, else start a new one; until Ctrl-C.

    Example: stepfold schedule my-model.yaml --cron '0 2 * * *' --timezone Europe/Berlin
    """
    from flows import preflight
    from flows.cli.request import read_request
    from flows.orchestration.server import prefect_server
    from infra.process.environment import set_private_umask

    request = read_request(recipe, profile, None, overrides or [])
    root = (root or Path(request.profile.storage.root)).absolute()
    settings.set_defaults()
    set_private_umask()
    name = request.recipe.run.name
    preflight.check(request.recipe, request.profile, root / f"{name}-next", accept_changes=False)
    with prefect_server(port, root / "schedule-server.log") as found:
        # this imports Prefect, which reads the address of its server then
        from flows.orchestration.deployment import check_schedule, serve

        check_schedule(request.recipe, cron, timezone)
        log = root / f"schedule-{name}.log"
        with exclusive_terminal(log) as console:
            console.print(_header(name, f"{cron!r} ({timezone})", found, root, log))
            serve(
                request.recipe,
                request.profile,
                root,
                cron=cron,
                timezone=timezone,
                show=lambda entry: console.print(_line(entry), soft_wrap=True),
            )
            console.print("Stopped. Start the schedule again to resume an unfinished run.")


def _header(name: str, when: str, found: "PrefectServer", root: Path, log: Path) -> Table:
    table = Table.grid(padding=(0, 2))
    rows = {
        "Schedule": f"{name} at {when}",
        "Prefect": f"{found.api_url.removesuffix('/api')}  {_ORIGINS[found.origin]}",
        "Runs": f"{format_path(root)}/{name}-<time>; an unfinished run is resumed first",
        "Log": format_path(log),
        "Stop": "Ctrl-C",
    }
    for key, value in rows.items():
        table.add_row(Text(key, style="name"), Text(value, overflow="fold"))
    return table


def _line(entry: "HistoryEntry") -> Text:
    line = Text(time.strftime("%Y-%m-%d %H:%M:%S  ", time.localtime(entry.time)), style="quiet")
    line.append(entry.outcome, style=_STYLES.get(entry.outcome, "careful"))
    line.append(f"  {format_path(Path(entry.run_dir))}" if entry.run_dir else "", style="default")
    line.append(f"  {entry.message}" if entry.message else "", style="default")
    return line
