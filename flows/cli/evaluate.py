"""`stepfold evaluate`: evaluate a finished run again, and write its report."""

from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import ComputeProfile, RunDirArgument
from flows.orchestration import settings
from pipeline.errors import DataError
from pipeline.wording import format_path

if TYPE_CHECKING:
    from pipeline.config import Recipe
    from pipeline.ledger import Artifact, Ledger


def evaluate(
    run_dir: RunDirArgument = None,
    profile: ComputeProfile = None,
    num_samples: Annotated[
        int | None,
        typer.Option(
            "--num-samples",
            "-n",
            min=2,
            help="Number of samples per network; the report is written to report-NUMBER/. "
            "Default: the recipe's number, and report/.",
        ),
    ] = None,
) -> None:
    """Evaluate a finished run again, and write its report.

    Example: stepfold evaluate runs/digits --num-samples 5000
    """
    from rich.text import Text

    from flows.cli.console import exclusive_terminal
    from flows.cli.request import find_run, read_profile
    from flows.cli.run import show_summary
    from infra.process.environment import set_private_umask
    from infra.process.machines import record_machine, this_machine
    from pipeline.ledger import Ledger, lock_run_dir
    from pipeline.run_dir import layout
    from pipeline.run_dir.events import Timing
    from pipeline.run_dir.layout import RunDir
    from pipeline.run_dir.recipe_file import read_recipe

    place = find_run(run_dir, profile)
    compute = read_profile(profile)
    recipe, folder = report_plan(read_recipe(place), num_samples)
    settings.set_defaults()
    set_private_umask()
    with lock_run_dir(place), exclusive_terminal(RunDir(place).run_log) as console:
        ledger = Ledger(place)
        data, teacher, *students = _inputs(ledger)
        components = RunDir(place).artifacts().get(layout.COMPONENTS)
        with console.status(Text(f"Evaluating {format_path(place)} ...")) as status:
            from infra.ray.cluster import cluster
            from stages.chain import StageId, Step
            from stages.evaluation import evaluate as stage
            from stages.workspace import ProgressObserver, Workspace

            def show(done: int, total: int) -> None:
                line = f"Evaluating {format_path(place)}: {done} of {total} parts sampled ..."
                status.update(Text(line))

            step = Step(StageId.EVALUATE)
            side = "" if folder == layout.REPORT else f", {num_samples} samples"
            timed = Timing(place).measure(f"{step.id}{side}", f"{step.title}{side}")
            with cluster(compute, RunDir(place).logs), timed:
                record_machine(this_machine(compute.compute), place)
                _forget_report(ledger, folder)  # not before the cluster is up
                stage.evaluate(
                    Workspace(place, recipe, compute),
                    data=data,
                    teacher=teacher,
                    students=students,
                    components=components,
                    observer=ProgressObserver(show),
                    folder=folder,
                )
            if folder == layout.REPORT:
                from stages.report.page import write_page

                write_page(place, recipe)
        show_summary(console, place, {}, folder)


def report_plan(recipe: "Recipe", num_samples: int | None) -> "tuple[Recipe, str]":
    """Return the recipe to evaluate, and the folder of its report."""
    from pipeline.run_dir import layout

    if num_samples is None or num_samples == recipe.evaluation.num_samples:
        return recipe, layout.REPORT
    evaluation = recipe.evaluation.model_copy(update={"num_samples": num_samples})
    return recipe.model_copy(update={"evaluation": evaluation}), layout.side_report(num_samples)


def _inputs(ledger: "Ledger") -> "list[Artifact]":
    """Return the data, the teacher, and the student of every round."""
    from pipeline.run_dir import layout
    from pipeline.run_dir.layout import RunDir
    from pipeline.run_dir.recipe_file import read_recipe
    from pipeline.training.plan import plan_decoders

    by_place = RunDir(ledger.run_dir).artifacts()
    students = map(layout.student_of, plan_decoders(read_recipe(ledger.run_dir)))
    places = [layout.DATA, layout.TEACHER, *students]
    missing = [place for place in places if place not in by_place]
    if missing:
        raise DataError(
            f"{format_path(ledger.run_dir)}: {', '.join(missing)} missing; finish the run with "
            "stepfold run before evaluating it"
        )
    return [by_place[place] for place in places]


def _forget_report(ledger: "Ledger", folder: str) -> None:
    for artifact in ledger.records():
        if artifact.path == folder:
            ledger.forget(artifact)
