"""`stepfold schedule`: check the request, find or start a Prefect server, serve, print history."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from flows import preflight
from flows.cli.console import own_terminal
from flows.cli.request import Request
from flows.orchestration import settings
from flows.orchestration.server import Server, server
from infra.process.environment import keep_private
from pipeline.wording import near

if TYPE_CHECKING:
    from flows.scheduled_distillation import HistoryEntry

_ORIGINS = {
    "yours": "named by PREFECT_API_URL, left as it is",
    "found": "already running there, left as it is",
    "started": "started here, stops with this command",
}
_STYLES = {"started": "default", "resumed": "default", "done": "good", "failed": "bad"}


def run_schedule(request: Request, root: Path, *, cron: str, timezone: str, port: int) -> None:
    """Serve the schedule of a recipe until Ctrl-C.

    Raises:
        StepfoldError: the recipe cannot be scheduled; nothing was created.
    """
    settings.settle()
    keep_private()
    name = request.recipe.run.name
    preflight.check(request.recipe, request.profile, root / f"{name}-next", accept_changes=False)
    with server(port, root / "schedule-server.log") as found:
        # this imports Prefect, which reads the address of its server then
        from flows.orchestration.deployment import check_schedule, serve

        check_schedule(request.recipe, cron, timezone)
        log = root / f"schedule-{name}.log"
        with own_terminal(log) as console:
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


def _header(name: str, when: str, found: Server, root: Path, log: Path) -> Table:
    table = Table.grid(padding=(0, 2))
    rows = {
        "Schedule": f"{name} at {when}",
        "Prefect": f"{found.api_url.removesuffix('/api')}  {_ORIGINS[found.origin]}",
        "Runs": f"{near(root)}/{name}-<time>; an unfinished run is resumed first",
        "Log": near(log),
        "Stop": "Ctrl-C",
    }
    for key, value in rows.items():
        table.add_row(Text(key, style="name"), Text(value, overflow="fold"))
    return table


def _line(entry: "HistoryEntry") -> Text:
    line = Text(time.strftime("%Y-%m-%d %H:%M:%S  ", time.localtime(entry.time)), style="quiet")
    line.append(entry.outcome, style=_STYLES.get(entry.outcome, "careful"))
    line.append(f"  {near(Path(entry.run_dir))}" if entry.run_dir else "", style="default")
    line.append(f"  {entry.message}" if entry.message else "", style="default")
    return line
