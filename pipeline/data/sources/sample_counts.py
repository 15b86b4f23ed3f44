"""Count the samples and classes of a recipe's data without opening it."""

from pathlib import Path

from pipeline.config import (
    CaptionedDigitsData,
    CaptionedFolderData,
    CaptionedTarsData,
    DigitCanvasesData,
    DigitsData,
    GaussianData,
    ImageFolderData,
    PromptsData,
    Recipe,
)

_DIGITS = (1797, 10)


def count_source(recipe: Recipe) -> tuple[int, int]:
    """Count the samples and classes of the recipe's data before sharding.

    Data without classes has 0 classes.

    Raises:
        DataError: captions are missing or cannot be read.
    """
    match recipe.data:
        case DigitsData():
            return _DIGITS
        case DigitCanvasesData(classes=classes, per_class=trained_on, holdout_per_class=heldout):
            return len(classes) * (trained_on + heldout), len(classes)
        case GaussianData(num_samples=total):
            return total, len(getattr(recipe.teacher.network, "means", ((),)))
        case ImageFolderData(path=path):
            files = [file for file in Path(path).glob("*/*") if file.is_file()]
            return len(files), len({file.parent for file in files})
        case CaptionedDigitsData(count=trained_on, holdout_count=heldout):
            return trained_on + heldout, _DIGITS[1]
        case CaptionedTarsData() | CaptionedFolderData() | PromptsData() as captioned:
            return _count_captioned(captioned), 0


def _count_captioned(config: CaptionedTarsData | CaptionedFolderData | PromptsData) -> int:
    # imported here, because these load image decoders and every command imports this module
    from pipeline.data.sources.captioned_folder import count_folder
    from pipeline.data.sources.captioned_tars import count_tars
    from pipeline.data.sources.prompts import list_prompts

    match config:
        case CaptionedTarsData():
            return count_tars(config)
        case CaptionedFolderData():
            return count_folder(config)
        case PromptsData():
            return len(list_prompts(config)[0])
