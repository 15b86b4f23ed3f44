"""The students that a run has by its recipe: none that failed, none of an earlier recipe."""

from pathlib import Path

from pipeline.bundle import MANIFEST
from pipeline.config import Recipe
from pipeline.documents import build, read_yaml
from pipeline.ledger import check_format
from pipeline.training.plan import plan_rounds

RECIPE = "recipe.yaml"


def recipe_of(run_dir: Path) -> Recipe:
    """The recipe a run directory was last worked on with.

    Raises:
        ConfigError: the run directory is of another format, or this version cannot read its recipe.
    """
    check_format(run_dir)
    return build(Recipe, read_yaml(run_dir / RECIPE), str(run_dir / RECIPE))


def students_of(run_dir: Path, recipe: Recipe) -> list[Path]:
    """The bundles of the recipe's rounds that are done, in order."""
    places = [run_dir / plan.folder / "student" for plan in plan_rounds(recipe)]
    return [place for place in places if (place / MANIFEST).is_file()]
