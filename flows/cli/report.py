"""`stepfold report` and `stepfold compare`: the HTML report of one run, and of two."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.console import open_console
from flows.cli.options import Price, RunDirOption, RunsProfile
from flows.orchestration import settings
from pipeline.errors import ConfigError
from pipeline.wording import format_path


def report(run_dir: RunDirOption = None, profile: RunsProfile = None, price: Price = None) -> None:
    """Write the HTML report of a finished run: verdicts, images, charts, cost and lineage.

    Example: stepfold report --run-dir runs/digits --price 2.50
    """
    from flows.cli.request import find_run
    from infra.process.environment import set_private_umask
    from pipeline.ledger import lock_run_dir
    from pipeline.run_dir.recipe_file import read_recipe

    place = find_run(run_dir, profile)
    settings.set_defaults()
    set_private_umask()
    from stages.report.page import write_page

    with lock_run_dir(place):
        path = write_page(place, read_recipe(place), price)
    open_console().print(f"Page  {format_path(path)}", soft_wrap=True)


def compare(
    one: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="Run directory with a report.")],
    two: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="Run directory to compare with.")],
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="FILE", help="File to write. Default: compare-RUN-RUN.html."),
    ] = None,
    price: Price = None,
) -> None:
    """Write an HTML comparison of two finished runs: verdicts, metrics, images and cost.

    Example: stepfold compare runs/digits runs/digits-on-policy
    """
    from infra.process.environment import set_private_umask
    from pipeline.run_dir.recipe_file import read_recipe
    from pipeline.run_dir.run_status import require_run

    places = [require_run(run_dir, Path()) for run_dir in (one, two)]
    settings.set_defaults()
    set_private_umask()
    from stages.report.compare import labels_of, write_comparison

    names = "-".join(label.replace("/", "_") for label in labels_of(*places))
    target = to or Path(f"compare-{names}.html")
    if target.is_dir() or not target.absolute().parent.is_dir():
        raise ConfigError(f"--to {target}: not a file in an existing directory; choose another")
    first, second = ((place, read_recipe(place)) for place in places)
    write_comparison(first, second, target, price)
    open_console().print(f"Page  {format_path(target.absolute())}", soft_wrap=True)
