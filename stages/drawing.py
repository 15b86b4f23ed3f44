"""How a teacher is to draw the data, where there are prompts and no images: said, not yet done."""

from pathlib import Path
from typing import Any

from pipeline.config import PromptsData, Recipe
from stages.adopt import network_identity, pipeline_manifest


def drawing(recipe: Recipe) -> dict[str, Any] | None:
    """How the recipe's teacher is to draw its data, as JSON; None if the data have images.

    It is what `stages.teacher_samples.TeacherSamples` opens.

    Raises:
        BundleError: `teacher.pipeline` names no pipeline that can be used.
    """
    if not isinstance(recipe.data, PromptsData):
        return None
    return {
        "directory": str(Path(str(recipe.teacher.pipeline)).resolve()),
        "manifest": pipeline_manifest(recipe).model_dump(mode="json"),
        "steps": recipe.data.steps,
        "w": recipe.data.w,
        "seed": recipe.run.seed,
    }


def drawing_identity(recipe: Recipe) -> dict[str, Any] | None:
    """All that determines what is drawn but the prompts; None if the data have images.

    Raises:
        BundleError: `teacher.pipeline` names no pipeline that can be used.
    """
    if not isinstance(recipe.data, PromptsData):
        return None
    return {
        "network": network_identity(recipe),
        "steps": recipe.data.steps,
        "w": recipe.data.w,
        "seed": recipe.run.seed,
    }
