"""Adopt an existing teacher: a stock pipeline, a bundle, or a closed-form network."""

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pipeline.bundle import MANIFEST, Lineage, Manifest, read_manifest
from pipeline.config import Recipe
from pipeline.data.latents import NULL, read_data_info
from pipeline.data.shards.dataset_info import read_info
from pipeline.errors import BundleError
from pipeline.ledger import FORMAT_VERSION, Artifact, Ledger, fingerprint, hash_file
from pipeline.models.directory.pipeline_directory import read_pipeline
from pipeline.models.directory.pipeline_files import component_files, network_files
from pipeline.run_dir import layout
from stages.workspace import UNOBSERVED, Observer, StageResult, Workspace, find_or_make


def adopt(
    work: Workspace,
    data: Artifact,
    observer: Observer = UNOBSERVED,
    examine: Callable[[Path], list[str]] = lambda bundle: [],  # noqa: ARG005
) -> StageResult[Artifact]:
    """Copy the teacher into the run, committed at `teacher/`, or reuse the copy.

    Args:
        work: the run; its recipe names the teacher.
        data: training samples of the students: latents if the teacher is a stock pipeline.
        observer: receives the progress.
        examine: returns warnings on a network that is read from files, which become notes of the
            artifact; see `stages.teacher.step_check.few_step_notes`.

    Raises:
        BundleError: the teacher does not match the data or the recipe.
    """
    ledger, recipe = work.ledger, work.recipe
    key = adopt_key(recipe, data)

    def write(folder: Path) -> dict[str, Any]:
        details = _write(folder, ledger, recipe, data)
        w, notes = recipe.teacher.w, []
        if w is not None:
            manifest = read_manifest(folder).model_copy(update={"w": w})
            (folder / MANIFEST).write_text(manifest.model_dump_json(indent=1), encoding="utf-8")
            notes.append(
                f"Round 0 is given by the teacher, which takes w as an input, {w.in_words}: it is "
                "not trained, and the first halving is round 1"
            )
        if not recipe.teacher.network.is_closed_form:
            notes += examine(folder)
        return {**details, "notes": notes} if notes else details

    def make() -> Artifact:
        return ledger.publish("teacher", key, layout.TEACHER, write)

    return find_or_make(ledger, key, observer, make)


def adopt_key(recipe: Recipe, data: Artifact) -> str:
    """Return the fingerprint of the adopted teacher: the bytes of its files, or the closed form."""
    teacher = recipe.teacher
    content: dict[str, Any] = {"stage": "adopt", "format": FORMAT_VERSION, "data": data.digest}
    if teacher.pipeline is not None:
        content |= network_identity(recipe)
    elif teacher.bundle is not None:
        bundle = Path(teacher.bundle)
        read_manifest(bundle)
        files = sorted(file for file in bundle.rglob("*") if file.is_file())
        content["bundle"] = _hashes(files, bundle)
    else:
        content["teacher"] = teacher.model_dump(mode="json")
    if teacher.w is not None:
        content["w"] = teacher.w.model_dump(mode="json")
    return fingerprint(content)


def network_identity(recipe: Recipe) -> dict[str, Any]:
    """Return what determines the network of `teacher.pipeline`: its configuration and its bytes.

    Raises:
        BundleError: `teacher.pipeline` is not a usable pipeline.
    """
    directory = pipeline_of(recipe)
    info = read_pipeline(directory)
    return {
        "pipeline": info.model_dump(mode="json"),
        "network": recipe.teacher.network.model_dump(mode="json"),
        "files": _hashes(network_files(directory, info.network_folder), directory),
    }


def pipeline_manifest(recipe: Recipe) -> Manifest:
    """Return a manifest of the network in `teacher.pipeline`; the pipeline can serve as its bundle.

    Raises:
        BundleError: `teacher.pipeline` is not a usable pipeline.
    """
    from pipeline.models.assemble import fresh_manifest

    info = read_pipeline(pipeline_of(recipe))
    manifest = fresh_manifest(
        recipe.teacher,
        info.num_classes,
        info.latent_shape,
        _lineage(recipe),
        info.class_names,
    )
    return manifest.model_copy(update={"pipeline": info.pipeline, "folder": info.network_folder})


def adopt_components(work: Workspace, observer: Observer = UNOBSERVED) -> StageResult[Artifact]:
    """Copy the teacher's pipeline without its network to `components/`, or reuse the copy.

    Raises:
        BundleError: `teacher.pipeline` is not a usable pipeline.
    """
    key = adopted_components_key(work.recipe)
    directory = pipeline_of(work.recipe)

    def write(folder: Path) -> dict[str, Any]:
        info = read_pipeline(directory)
        _copy(component_files(directory, info.network_folder), directory, folder)
        return {"adopted": True, "pipeline": info.pipeline}

    def make() -> Artifact:
        return work.ledger.publish("components", key, layout.COMPONENTS, write)

    return find_or_make(work.ledger, key, observer, make)


def adopted_components_key(recipe: Recipe) -> str:
    """Return the fingerprint of adopted components: the bytes of their files.

    Raises:
        BundleError: `teacher.pipeline` is not a usable pipeline.
    """
    directory = pipeline_of(recipe)
    files = component_files(directory, read_pipeline(directory).network_folder)
    return fingerprint(
        {
            "stage": "adopt_components",
            "format": FORMAT_VERSION,
            "files": _hashes(files, directory),
        }
    )


def pipeline_of(recipe: Recipe) -> Path:
    """Return the directory of `teacher.pipeline`."""
    if recipe.teacher.pipeline is None:
        raise ValueError("teacher.pipeline is not set, so there is no pipeline to adopt")
    return Path(recipe.teacher.pipeline)


def _hashes(files: Iterable[Path], root: Path) -> dict[str, str]:
    return {file.relative_to(root).as_posix(): hash_file(file).sha256 for file in files}


def _copy(files: Iterable[Path], root: Path, target: Path) -> None:
    for file in files:
        place = target / file.relative_to(root)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, place)


def _write(folder: Path, ledger: Ledger, recipe: Recipe, data: Artifact) -> dict[str, Any]:
    if recipe.teacher.pipeline is not None:
        return _write_pipeline(folder, recipe, ledger.locate(data))
    info = read_info(ledger.locate(data))
    if recipe.teacher.bundle is not None:
        bundle = Path(recipe.teacher.bundle)
        manifest = read_manifest(bundle)
        holds = (manifest.role, manifest.latent_shape, manifest.num_classes)
        if holds != ("teacher", info.latent_shape, info.num_classes):
            raise BundleError(
                f"{bundle} is a {manifest.role} for samples of shape {manifest.latent_shape} in "
                f"{manifest.num_classes} classes; this recipe needs a teacher for "
                f"{info.latent_shape} in {info.num_classes}"
            )
        shutil.copytree(bundle, folder, dirs_exist_ok=True)
        return {"adopted": True}
    from pipeline.models.assemble import family_of, fresh_manifest, save_bundle

    manifest = fresh_manifest(
        recipe.teacher,
        info.num_classes,
        info.latent_shape,
        _lineage(recipe),
        info.class_names,
    )
    save_bundle(folder, manifest, family_of(manifest).build())
    return {"closed_form": True}


def _write_pipeline(folder: Path, recipe: Recipe, data: Path) -> dict[str, Any]:
    """Copy the network's files under their stock names, and the null condition of the data."""
    directory = pipeline_of(recipe)
    info = read_pipeline(directory)
    shape = read_data_info(data).latent_shape
    if shape != info.latent_shape:
        raise BundleError(
            f"{directory} denoises samples of shape {info.latent_shape}, but the data in {data} "
            f"have shape {shape}; change data.size to match the pipeline's autoencoder"
        )
    manifest = pipeline_manifest(recipe)
    _copy(network_files(directory, info.network_folder), directory, folder)
    if (data / NULL).is_file():
        shutil.copyfile(data / NULL, folder / NULL)
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=1), encoding="utf-8")
    return {"adopted": True, "pipeline": info.pipeline}


def _lineage(recipe: Recipe) -> Lineage:
    return Lineage(run=recipe.run.name, round=None, parent=None)
