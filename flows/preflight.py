"""Everything that can be known to be wrong before a run, checked before anything is created."""

from pathlib import Path

from infra.ray.cluster import check_local_resources
from pipeline.bundle import read_manifest
from pipeline.config import FilesData, Recipe
from pipeline.config.profile import Profile
from pipeline.data.sources.counting import count_source
from pipeline.data.sources.loaded_source import FEWEST_HELDOUT
from pipeline.errors import BundleError, ConfigError
from pipeline.evaluation.features.extractor_weights import find_weights
from pipeline.models.directory.pipeline_directory import read_pipeline
from pipeline.run_dir import recipe_file as home
from stages.plan.disk import check_disk


def check(recipe: Recipe, profile: Profile, run_dir: Path, *, accept_changes: bool) -> None:
    """Refuse what cannot work, leaving no trace.

    Raises:
        ConfigError: batches do not divide among the workers, a teacher is to be split where no
            worker holds one, the machine has fewer CPUs or GPUs
            than asked for, the run directory cannot be used (see
            `pipeline.run_dir.recipe_file.check`), or its disk is too small.
        DataError: the data set is missing, empty or not of one size.
        BundleError: the teacher bundle is not one, or not a teacher; or the teacher's pipeline
            cannot be used, or its weights contradict its scheduler.
    """
    _check_batches(recipe, profile)
    if profile.engine.split_teacher and recipe.targets.mode != "online":
        raise ConfigError(
            "engine.split_teacher: targets are pre-generated, so no training worker holds a "
            "teacher; drop it, or set targets.mode: online"
        )
    if profile.compute.is_local:
        check_local_resources(profile.compute)
    _check_data(recipe)
    _check_pipeline(recipe)
    _check_teacher(recipe)
    _check_evaluation(recipe)
    home.check(recipe, run_dir, accept_changes=accept_changes)
    check_disk(recipe, run_dir)
    _try_pipeline(recipe, run_dir)


def _check_batches(recipe: Recipe, profile: Profile) -> None:
    workers = profile.compute.workers
    sections = {
        "teacher.train": recipe.teacher.train,
        "guidance": recipe.guidance,
        "halving": recipe.halving,
        "encoding": recipe.encoding,
    }
    for name, section in sections.items():
        if section is not None and section.batch_size % workers:
            nearest = max(1, round(section.batch_size / workers)) * workers
            raise ConfigError(
                f"{name}.batch_size: {section.batch_size} does not divide among {workers} workers; "
                f"use {nearest}, or change compute.workers"
            )


def _check_data(recipe: Recipe) -> None:
    if isinstance(recipe.data, FilesData):
        from pipeline.data.sources.datasets import load_source

        # names, headers and captions; nothing is decoded
        load_source(recipe.data, recipe.run.seed, recipe.teacher.network)


def _check_teacher(recipe: Recipe) -> None:
    if recipe.teacher.bundle is None:
        return
    manifest = read_manifest(Path(recipe.teacher.bundle))
    if manifest.role != "teacher":
        raise BundleError(
            f"{recipe.teacher.bundle} holds a student; a run starts from a teacher's bundle"
        )
    if manifest.pipeline is not None:
        raise BundleError(
            f"{recipe.teacher.bundle} draws latents of a {manifest.pipeline} and lacks its other "
            "parts; export it (stepfold export) and give teacher.pipeline: DIRECTORY"
        )
    if manifest.network.family != recipe.teacher.network.family:
        raise BundleError(
            f"{recipe.teacher.bundle} holds a {manifest.network.family}, the recipe says "
            f"teacher.network.family: {recipe.teacher.network.family}"
        )
    says = {
        "teacher.schedule": (recipe.teacher.schedule, manifest.schedule),
        "teacher.prediction": (recipe.teacher.prediction, manifest.prediction_type),
        "teacher.network": (recipe.teacher.network, manifest.network),
    }
    for key, (asked, holds) in says.items():
        if asked != holds:
            raise ConfigError(
                f"{key}: the recipe says {asked!r}, the teacher in {recipe.teacher.bundle} is "
                f"{holds!r}; write what the bundle is"
            )


def _check_pipeline(recipe: Recipe) -> None:
    """The directory is still what the recipe says, and made for such data."""
    if recipe.teacher.pipeline is None:
        return
    info = read_pipeline(Path(recipe.teacher.pipeline))
    says = {
        "teacher.schedule": (recipe.teacher.schedule, info.schedule),
        "teacher.prediction": (recipe.teacher.prediction, info.prediction),
    }
    for key, (asked, holds) in says.items():
        if asked != holds:
            raise ConfigError(
                f"{key}: the recipe says {asked!r}, the pipeline in {recipe.teacher.pipeline} is "
                f"{holds!r}; remove the key from the recipe"
            )
    sides = [info.downsampling * side for side in info.latent_shape[1:]]
    size = getattr(recipe.data, "size", sides[0])
    if [size, size] != sides:
        raise ConfigError(
            f"data.size: {size}, but the pipeline in {recipe.teacher.pipeline} draws images of "
            f"{sides[0]} x {sides[1]}; use its size"
        )
    classes = count_source(recipe)[1] if info.num_classes else 0
    if classes != info.num_classes:
        raise ConfigError(
            f"data: {classes} classes, but the pipeline in {recipe.teacher.pipeline} knows "
            f"{info.num_classes}; give data of all of them, in its order"
        )


def _try_pipeline(recipe: Recipe, run_dir: Path) -> None:
    """Its network predicts what its scheduler says; takes seconds, minutes with a large one."""
    if recipe.teacher.pipeline is None or (run_dir / "teacher").exists():
        return
    from stages.teacher.prediction_check import (
        check_prediction,  # torch, which nothing before needs
    )

    check_prediction(recipe)


def _check_evaluation(recipe: Recipe) -> None:
    """Enough samples and enough held-out data to measure anything, and all extractors' weights."""
    for extractor in recipe.evaluation.extractors:
        find_weights(extractor)
    total, classes = count_source(recipe)
    asked = {"evaluation.num_samples": recipe.evaluation.num_samples}
    asked |= {"gate.num_samples": recipe.gate.num_samples} if recipe.gate else {}
    for key, num in asked.items():
        if num < 2 * max(1, classes):
            raise ConfigError(
                f"{key}: {num} is fewer than two samples for each of {classes} classes; use at "
                f"least {2 * max(1, classes)}"
            )
    # without classes, so many are held out whatever the share
    if classes and round(total * recipe.data.holdout) < FEWEST_HELDOUT:
        raise ConfigError(
            f"data.holdout: {recipe.data.holdout:g} of {total} samples leaves too few to compare "
            f"with; hold out at least {FEWEST_HELDOUT}"
        )
