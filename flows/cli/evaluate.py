"""`stepfold evaluate`: make the report of a run again."""

from pathlib import Path

from rich.text import Text

from flows.cli.console import own_terminal
from flows.cli.run import show_summary
from flows.orchestration import settings
from infra.process.environment import keep_private
from infra.process.machines import record_machine, this_machine
from pipeline.config import Recipe
from pipeline.config.profile import Profile, default_profile
from pipeline.documents import build, read_yaml
from pipeline.errors import DataError
from pipeline.ledger import Artifact, Ledger, hold
from pipeline.run_dir.events import Timing
from pipeline.run_dir.recipe_file import stored
from pipeline.run_dir.run_status import require_run
from pipeline.training.plan import plan_decoders
from pipeline.wording import near

REPORT_FOLDER = "report"


def evaluate_again(run_dir: Path, profile_path: Path | None, num_samples: int | None) -> None:
    """Sample, measure and draw again what the run directory holds.

    With a number of samples of its own the report goes to `report-NUMBER/`, and the run's stays.

    Raises:
        StepfoldError: it is no run, or its students are not all there.
    """
    place = require_run(run_dir, Path("runs"))
    profile = build(Profile, read_yaml(profile_path or default_profile()), str(profile_path))
    recipe, folder = asked_for(stored(place), num_samples)
    settings.settle()
    keep_private()
    with hold(place), own_terminal(place / "logs" / "run.log") as console:
        ledger = Ledger(place)
        data, teacher, *students = _ingredients(ledger)
        parts = [each for each in ledger.records() if each.path == "components"]
        with console.status(Text(f"Evaluating {near(place)} ...")) as shown:
            from infra.ray.cluster import cluster
            from stages.evaluation.evaluate import evaluate

            def tell(done: int, total: int) -> None:
                shown.update(Text(f"Evaluating {near(place)}: {done} of {total} parts drawn ..."))

            label = "evaluate" if folder == REPORT_FOLDER else f"evaluate, {num_samples} samples"
            with cluster(profile, place / "logs"), Timing(place).measure(label):
                record_machine(this_machine(profile.compute), place)
                _forget_report(ledger, folder)  # only now that a new one can be made
                evaluate(
                    place,
                    recipe,
                    profile,
                    data=data,
                    teacher=teacher,
                    students=students,
                    components=parts[-1] if parts else None,
                    progress=tell,
                    folder=folder,
                )
            if folder == REPORT_FOLDER:
                from stages.report.page import write_page

                write_page(place, recipe)
        show_summary(console, place, {}, folder)


def asked_for(recipe: Recipe, num_samples: int | None) -> tuple[Recipe, str]:
    """The recipe to evaluate, and the folder its report goes to."""
    if num_samples in (None, recipe.evaluation.num_samples):
        return recipe, REPORT_FOLDER
    asked = recipe.evaluation.model_copy(update={"num_samples": num_samples})
    return recipe.model_copy(update={"evaluation": asked}), f"report-{num_samples}"


def _ingredients(ledger: Ledger) -> list[Artifact]:
    """The data, the teacher, and the student of every round."""
    by_place = {artifact.path: artifact for artifact in ledger.records()}
    recipe = stored(ledger.run_dir)
    places = ["data", "teacher", *(f"{plan.folder}/student" for plan in plan_decoders(recipe))]
    missing = [place for place in places if place not in by_place]
    if missing:
        raise DataError(
            f"{ledger.run_dir} has no {', '.join(missing)} yet; finish the run before evaluating it"
        )
    return [by_place[place] for place in places]


def _forget_report(ledger: Ledger, folder: str) -> None:
    for artifact in ledger.records():
        if artifact.path == folder:
            ledger.forget(artifact)
