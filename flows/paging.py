"""`stepfold page`: write the page of a finished run again."""

from pathlib import Path

from flows import environment
from flows.console import near, open_console
from flows.run_dir import stored
from flows.standing import require_run
from infra.environment import keep_private
from pipeline.ledger import hold


def write_again(run_dir: Path | None, price_per_hour: float | None) -> None:
    """Make the page from what the run directory holds, and say where it is.

    Raises:
        StepfoldError: it is no run, or has no report yet.
    """
    place = require_run(run_dir, Path("runs"))
    environment.settle()
    keep_private()
    from stages.page import write_page

    with hold(place):
        path = write_page(place, stored(place), price_per_hour)
    open_console().print(f"Page  {near(path)}", soft_wrap=True)
