"""`stepfold evaluate`: make the report of a run again."""

from pathlib import Path

from rich.text import Text

from flows import environment
from flows.console import near, own_terminal
from flows.run_dir import stored
from flows.standing import require_run
from flows.summary import show_summary
from infra.profile import Profile, default_profile
from pipeline.documents import build, read_yaml
from pipeline.errors import DataError
from pipeline.ledger import Artifact, Ledger, hold, write_durably
from pipeline.training.plan import plan_rounds


def evaluate_again(run_dir: Path, profile_path: Path | None) -> None:
    """Sample, measure and draw again what the run directory holds.

    Raises:
        StepfoldError: it is no run, or its students are not all there.
    """
    place = require_run(run_dir, Path("runs"))
    profile = build(Profile, read_yaml(profile_path or default_profile()), str(profile_path))
    recipe = stored(place)
    environment.settle()
    with hold(place), own_terminal(place / "logs" / "run.log") as console:
        ledger = Ledger(place)
        data, teacher, *students = _ingredients(ledger)
        with console.status(Text(f"Evaluating {near(place)} ...")):
            from infra.ray_cluster import cluster
            from stages.evaluate import evaluate

            kept = _forget_report(ledger)
            with cluster(profile, place / "logs"):
                evaluate(place, recipe, profile, data=data, teacher=teacher, students=students)
            if kept:
                write_durably(place / "report" / "timing.json", kept)
        show_summary(console, place, {})


def _ingredients(ledger: Ledger) -> list[Artifact]:
    """The data, the teacher, and the student of every round."""
    by_place = {artifact.path: artifact for artifact in ledger.records()}
    recipe = stored(ledger.run_dir)
    places = ["data", "teacher", *(f"{plan.folder}/student" for plan in plan_rounds(recipe))]
    missing = [place for place in places if place not in by_place]
    if missing:
        raise DataError(
            f"{ledger.run_dir} has no {', '.join(missing)} yet; finish the run before evaluating it"
        )
    return [by_place[place] for place in places]


def _forget_report(ledger: Ledger) -> str:
    """Drop the report; returns its stage times, which are not the report's own."""
    timing = ledger.run_dir / "report" / "timing.json"
    kept = timing.read_text(encoding="utf-8") if timing.is_file() else ""
    for artifact in ledger.records():
        if artifact.kind == "report":
            ledger.forget(artifact)
    return kept
