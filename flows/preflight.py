"""Checks of recipe, profile, data and teacher before a run creates any file."""

from pathlib import Path

from infra.process.environment import check_home
from infra.ray.cluster import check_local_resources
from infra.tracking import check_tracking
from pipeline.bundle import read_manifest
from pipeline.config import Recipe
from pipeline.config.profile import Profile
from pipeline.data.sources.datasets import count_source, load_source
from pipeline.data.sources.loaded_source import MIN_HELDOUT, LoadedSource
from pipeline.errors import BundleError, ConfigError
from pipeline.evaluation.features.extractor_weights import find_weights
from pipeline.models.directory.pipeline_directory import read_pipeline
from pipeline.run_dir import layout
from stages.data.class_order import in_teacher_order, teacher_classes
from stages.plan.changes import check_changes
from stages.plan.disk import check_disk
from stages.plan.sizes import sample_shape


def check(recipe: Recipe, profile: Profile, run_dir: Path, *, accept_changes: bool) -> None:
    """Check that a run can succeed; nothing is written.

    Raises:
        ConfigError: there is no writable home directory, a batch size is not divisible by the
            number of workers, a run with pregenerated targets splits its teacher, the machine has
            fewer CPUs or GPUs than requested, the tracker is not installed, the run directory
            cannot be used (see `stages.plan.changes.check_changes`), its disk is too small, or the
            recipe contradicts the teacher or the data, also in the shape of samples.
        DataError: the data set is missing, empty or of mixed image sizes.
        BundleError: the teacher bundle is damaged or not a teacher, the teacher's pipeline is not
            supported, or its weights contradict its scheduler.
    """
    check_home()
    _check_batches(recipe, profile)
    if profile.engine.split_teacher and not recipe.has_online_targets:
        raise ConfigError(
            "engine.split_teacher: true needs a teacher in the training workers, but targets are "
            "pregenerated; remove it, or set targets.mode: online"
        )
    if profile.compute.is_local:
        check_local_resources(profile.compute)
    check_tracking(profile.tracking)
    source = _check_data(recipe)
    sample_shape(recipe)
    _check_pipeline(recipe)
    _check_teacher(recipe)
    if teacher_classes(recipe) is not None:
        in_teacher_order(recipe, source or _load(recipe))
    _check_evaluation(recipe)
    check_changes(recipe, profile, run_dir, accept_changes=accept_changes)
    check_disk(recipe, run_dir)
    _try_pipeline(recipe, run_dir)


def _check_batches(recipe: Recipe, profile: Profile) -> None:
    workers = profile.compute.workers
    sections = {
        "teacher.train": recipe.teacher.train,
        "guidance": recipe.guidance,
        "halving": recipe.halving,
        "encoding": recipe.encoding,
        **{f"rounds.{at}.training": each.training for at, each in enumerate(recipe.rounds or ())},
    }
    for name, section in sections.items():
        if section is not None and section.batch_size % workers:
            nearest = max(1, round(section.batch_size / workers)) * workers
            raise ConfigError(
                f"{name}.batch_size: {section.batch_size} is not divisible by {workers} workers; "
                f"use {nearest}, or change compute.workers"
            )


def _check_data(recipe: Recipe) -> LoadedSource | None:
    # reads names, headers and captions, but decodes no image
    return None if recipe.data.place is None else _load(recipe)


def _load(recipe: Recipe) -> LoadedSource:
    return load_source(recipe.data, recipe.run.seed, recipe.teacher.network)


def _check_teacher(recipe: Recipe) -> None:
    if recipe.teacher.bundle is None:
        return
    manifest = read_manifest(Path(recipe.teacher.bundle))
    if manifest.role != "teacher":
        raise BundleError(
            f"teacher.bundle: {recipe.teacher.bundle} is a student; use the bundle of a teacher"
        )
    if manifest.pipeline is not None:
        raise BundleError(
            f"teacher.bundle: {recipe.teacher.bundle} is the network of a {manifest.pipeline} "
            "without its other components; run `stepfold export` on it and use teacher.pipeline: "
            "DIRECTORY"
        )
    if manifest.network.family != recipe.teacher.network.family:
        raise BundleError(
            f"teacher.network.family: {recipe.teacher.network.family} in the recipe, but "
            f"{recipe.teacher.bundle} is a {manifest.network.family}; change the recipe"
        )
    values = {
        "teacher.schedule": (recipe.teacher.schedule, manifest.schedule),
        "teacher.prediction": (recipe.teacher.prediction, manifest.prediction_type),
        "teacher.network": (recipe.teacher.network, manifest.network),
    }
    for key, (expected, found) in values.items():
        if expected != found:
            raise ConfigError(
                f"{key}: {expected!r} in the recipe, but {found!r} in {recipe.teacher.bundle}; "
                "change the recipe"
            )


def _check_pipeline(recipe: Recipe) -> None:
    """Check the pipeline directory against the recipe and the data."""
    if recipe.teacher.pipeline is None:
        return
    info = read_pipeline(Path(recipe.teacher.pipeline))
    values = {
        "teacher.schedule": (recipe.teacher.schedule, info.schedule),
        "teacher.prediction": (recipe.teacher.prediction, info.prediction),
    }
    for key, (expected, found) in values.items():
        if expected != found:
            raise ConfigError(
                f"{key}: {expected!r} in the recipe, but {found!r} in {recipe.teacher.pipeline}; "
                "remove the key from the recipe"
            )
    sides = [info.downsampling * side for side in info.latent_shape[1:]]
    size = getattr(recipe.data, "size", sides[0])
    if [size, size] != sides:
        raise ConfigError(
            f"data.size: {size}, but the pipeline in {recipe.teacher.pipeline} generates images of "
            f"{sides[0]} x {sides[1]}; use that size"
        )
    classes = count_source(recipe)[1] if info.num_classes else 0
    if classes != info.num_classes:
        raise ConfigError(
            f"data: {classes} classes, but the pipeline in {recipe.teacher.pipeline} has "
            f"{info.num_classes}; use data with all of its classes"
        )


def _try_pipeline(recipe: Recipe, run_dir: Path) -> None:
    """Check the prediction type of the network; takes seconds, or minutes for a large one."""
    if recipe.teacher.pipeline is None or (run_dir / layout.TEACHER).exists():
        return
    # imports torch, which no earlier check needs
    from stages.teacher.prediction_check import check_prediction

    check_prediction(recipe)


def _check_evaluation(recipe: Recipe) -> None:
    """Check the numbers of samples and held-out images, and the weights of all extractors."""
    for extractor in recipe.evaluation.extractors:
        find_weights(extractor)
    total, classes = count_source(recipe)
    sizes = {"evaluation.num_samples": recipe.evaluation.num_samples}
    sizes |= {"gate.num_samples": recipe.gate.num_samples} if recipe.gate else {}
    for key, num in sizes.items():
        if num < 2 * max(1, classes):
            raise ConfigError(
                f"{key}: {num} is fewer than two samples for each of {classes} classes; use at "
                f"least {2 * max(1, classes)}"
            )
    # data without classes always holds out at least the minimum
    if classes and round(total * recipe.data.holdout) < MIN_HELDOUT:
        raise ConfigError(
            f"data.holdout: {recipe.data.holdout:g} of {total} samples is too few for the "
            f"evaluation; hold out at least {MIN_HELDOUT} samples"
        )
