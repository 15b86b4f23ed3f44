"""Data whose classes have the numbers that an existing teacher knows them by."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.bundle import read_manifest
from pipeline.class_names import match_classes
from pipeline.config import Recipe
from pipeline.data.sources.loaded_source import LoadedSource
from pipeline.models.directory.pipeline_directory import read_pipeline


def teacher_classes(recipe: Recipe) -> tuple[str, ...] | None:
    """Return the recorded class names of an existing teacher of classes; None without one.

    They are empty if its classes are numbers only.

    Raises:
        BundleError: the teacher cannot be read.
    """
    teacher = recipe.teacher
    if teacher.network.reads_text:
        return None
    if teacher.pipeline is not None:
        info = read_pipeline(Path(teacher.pipeline))
        return info.class_names if info.num_classes else None
    if teacher.bundle is not None:
        manifest = read_manifest(Path(teacher.bundle))
        return manifest.class_names if manifest.num_classes else None
    return None


def in_teacher_order(recipe: Recipe, source: LoadedSource) -> LoadedSource:
    """Return the recipe's data with classes in the order of an existing teacher.

    Raises:
        BundleError: the teacher cannot be read.
        ConfigError: its classes are not those of the data.
    """
    known = teacher_classes(recipe)
    if known is None or source.labels is None:
        return source
    key = "pipeline" if recipe.teacher.pipeline is not None else "bundle"
    place = f"teacher.{key} {getattr(recipe.teacher, key)}"
    order = np.array(match_classes(source.class_names, known, place), np.int64)
    names = tuple(source.class_names[at] for at in np.argsort(order))
    return replace(source, labels=order[source.labels], class_names=names)
