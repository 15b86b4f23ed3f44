"""Write the page of a run: its report, its costs and its lineage in one file for people.

The page is no artifact: it tells times, which never repeat. It is made from the files of the run
directory alone, so it can be made again at any time, also when the source of the data is gone.
"""

from pathlib import Path

from pipeline.config import Recipe
from pipeline.durable import write_durably


def page_of(run_dir: Path) -> Path:
    """Where a run's page lies, if there is one."""
    return run_dir / "report" / "index.html"


def forget_page(run_dir: Path) -> None:
    """Take a page away that does not tell all that the run has made; it is then written again."""
    page_of(run_dir).unlink(missing_ok=True)


def write_page(run_dir: Path, recipe: Recipe, price_per_hour: float | None = None) -> Path:
    """Write `report/index.html` of a run that has a report.

    Args:
        run_dir: the run directory.
        recipe: of the run.
        price_per_hour: of all machines together, in any currency; None to say nothing of money.

    Raises:
        DataError: there is no report yet.
    """
    from pipeline.page.render import render
    from stages.page_content import gather

    path = page_of(run_dir)
    write_durably(path, render(gather(run_dir, recipe, price_per_hour)))
    return path
