"""How much data a recipe names, known without opening it."""

from pathlib import Path

from pipeline.config import DigitCanvasesData, DigitsData, GaussianData, Recipe

_DIGITS = (1797, 10)


def count_source(recipe: Recipe) -> tuple[int, int]:
    """How many samples and classes the recipe's data has, before it is sharded."""
    match recipe.data:
        case DigitsData():
            return _DIGITS
        case DigitCanvasesData(classes=classes, per_class=trained_on, holdout_per_class=heldout):
            return len(classes) * (trained_on + heldout), len(classes)
        case GaussianData(num_samples=total):
            return total, len(getattr(recipe.teacher.network, "means", ((),)))
        case folder:
            files = [file for file in Path(folder.path).glob("*/*") if file.is_file()]
            return len(files), len({file.parent for file in files})
