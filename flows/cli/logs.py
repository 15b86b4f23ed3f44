"""`stepfold logs`: the end of a run's log."""

import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import RunDirOption, RunsProfile
from pipeline.errors import ConfigError
from pipeline.wording import format_path


def logs(
    run_dir: RunDirOption = None,
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=1, help="Number of lines to print.")
    ] = 50,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Keep printing lines as they are written.")
    ] = False,
    profile: RunsProfile = None,
) -> None:
    """Print the end of a run's log.

    Example: stepfold logs --follow
    """
    from flows.cli.request import find_run

    place = find_run(run_dir, profile)
    for line in tail(place / "logs" / "run.log", lines, follow=follow):
        typer.echo(line)


def tail(path: Path, count: int, *, follow: bool) -> Iterator[str]:
    """Yield the last lines of a text file; with `follow`, also every line that is added.

    Raises:
        ConfigError: the file does not exist.
    """
    if not path.is_file():
        raise ConfigError(
            f"{format_path(path)} does not exist; the log is written by stepfold run, once it has "
            "started"
        )
    with path.open(encoding="utf-8", errors="replace") as file:
        yield from (line.rstrip("\n") for line in deque(file, maxlen=count))
        while follow:
            line = file.readline()
            if line:
                yield line.rstrip("\n")
            else:
                time.sleep(0.5)
