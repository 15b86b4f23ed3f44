"""A run of the digits recipe made in seconds, with all its parts and nothing learnt.

The suite's quick form compares on it, so that no trained teacher has to be at hand.
"""

from pathlib import Path

from pipeline.config import DigitsData, Recipe
from pipeline.data.shards.writer import write_dataset
from pipeline.data.sources.datasets import load_source
from pipeline.documents import build, to_yaml
from pipeline.evaluation.dataset_images import real_images
from pipeline.evaluation.features.classifier import train_classifier
from tests.benchmarks.sizes import CLASSES, LAW, Size, write_bundle

_SIZE = Size("tiny", (8, 16), (1, 8, 8), 16)
_STEPS = (4, 2, 1)


def tiny_run(folder: Path) -> Path:
    """Write it; the students are made for 4, 2 and 1 steps."""
    recipe = _recipe()
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(to_yaml(recipe), encoding="utf-8")
    source = load_source(recipe.data, 0, recipe.teacher.network)
    write_dataset(folder / "data", source, DigitsData(source="digits"))
    train_classifier(
        folder / "evaluation" / "classifier",
        real_images(folder / "data", "train"),
        real_images(folder / "data", "heldout"),
        num_classes=CLASSES,
        seed=0,
        updates=20,
    )
    write_bundle(folder / "teacher", _SIZE, "teacher")
    for number, steps in enumerate(_STEPS):
        path = folder / "rounds" / f"{number:02d}" / "student"
        write_bundle(path, _SIZE, "student", steps=(steps,))
    return folder


def _recipe() -> Recipe:
    tree = {
        "run": {"name": "tiny"},
        "data": {"source": "digits"},
        "teacher": {
            "network": {"family": "unet", "block_channels": list(_SIZE.block_channels)},
            "train": {"updates": 1},
            "reference_steps": 4,
        },
        "guidance": {"w": LAW.model_dump(), "updates": 2, "batch_size": _SIZE.batch},
        "halving": {"steps": [8, *_STEPS], "updates": 2, "batch_size": _SIZE.batch},
    }
    return build(Recipe, tree, "the tiny run")
