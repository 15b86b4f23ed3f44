"""What `stepfold plan` does: look, count, and print; nothing is created."""

from flows.console import open_console
from flows.memory_table import memory_table
from flows.request import Request
from flows.tables import plan_table
from pipeline.ledger import check_format
from stages.footprint import measure_footprint
from stages.planning import describe


def show_plan(request: Request) -> None:
    """Print what a run would do, what it costs, and what memory its workers need.

    Raises:
        ConfigError: see `stages.planning.describe`; or the run directory is of another format.
        BundleError: the teacher that the recipe names is none.
    """
    recipe, profile = request.recipe, request.profile
    check_format(request.run_dir)
    rows = describe(recipe, profile, request.run_dir)
    footprint = measure_footprint(recipe, profile)
    console = open_console()
    console.print(plan_table(rows))
    console.print(memory_table(footprint))
