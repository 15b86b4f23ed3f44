"""`stepfold page` and `stepfold compare`: the page of a finished run, and of two."""

from pathlib import Path

from flows.cli.console import open_console
from flows.orchestration import settings
from infra.process.environment import keep_private
from pipeline.errors import ConfigError
from pipeline.ledger import hold
from pipeline.run_dir.recipe_file import stored
from pipeline.run_dir.run_status import require_run
from pipeline.wording import near


def write_again(run_dir: Path | None, price_per_hour: float | None) -> None:
    """Make the page from what the run directory holds, and say where it is.

    Raises:
        StepfoldError: it is no run, or has no report yet.
    """
    place = require_run(run_dir, Path("runs"))
    settings.settle()
    keep_private()
    from stages.report.page import write_page

    with hold(place):
        path = write_page(place, stored(place), price_per_hour)
    open_console().print(f"Page  {near(path)}", soft_wrap=True)


def write_both(one: Path, two: Path, to: Path | None, price_per_hour: float | None) -> None:
    """Make the page of two runs, and say where it is.

    Raises:
        StepfoldError: one is no run or has no report yet, or both are the same.
    """
    places = [require_run(run_dir, Path("runs")) for run_dir in (one, two)]
    settings.settle()
    keep_private()
    from stages.report.compare import labels_of, write_comparison

    names = "-".join(label.replace("/", "_") for label in labels_of(*places))
    target = to or Path(f"compare-{names}.html")
    if target.is_dir() or not target.absolute().parent.is_dir():
        raise ConfigError(f"--to {target}: not a file in an existing directory; choose another")
    first, second = ((place, stored(place)) for place in places)
    write_comparison(first, second, target, price_per_hour)
    open_console().print(f"Page  {near(target.absolute())}", soft_wrap=True)
