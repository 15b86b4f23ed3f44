"""Take in a teacher that is not trained here: a stock pipeline, a bundle, or a closed form."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pipeline.bundle import MANIFEST, Lineage, Manifest, read_manifest
from pipeline.config import Recipe
from pipeline.data.latents import read_latents_info
from pipeline.data.shards.dataset_info import read_info
from pipeline.errors import BundleError
from pipeline.ledger import FORMAT_VERSION, Artifact, Ledger, fingerprint, hash_file
from pipeline.models.directory.pipeline_directory import read_pipeline
from pipeline.models.directory.pipeline_files import component_files, network_files

_NULL = "null.safetensors"
_LATENTS = "latents.json"


def adopt(run_dir: Path, recipe: Recipe, data: Artifact) -> Artifact:
    """The run's own copy of the teacher, committed at `teacher/`.

    Args:
        run_dir: the run directory.
        recipe: names the teacher.
        data: what students are trained on: latents where the teacher is a pipeline's.

    Raises:
        BundleError: the teacher does not fit the data or the recipe.
    """
    ledger = Ledger(run_dir)
    key = adopt_key(recipe, data)
    return ledger.find(key) or ledger.publish(
        "teacher", key, "teacher", lambda folder: _write(folder, ledger, recipe, data)
    )


def adopt_key(recipe: Recipe, data: Artifact) -> str:
    """Fingerprint of the adopted teacher: the bytes it is read from, or the closed form."""
    teacher = recipe.teacher
    content: dict[str, Any] = {"stage": "adopt", "format": FORMAT_VERSION, "data": data.digest}
    if teacher.pipeline is not None:
        content |= network_identity(recipe)
    elif teacher.bundle is not None:
        given = Path(teacher.bundle)
        read_manifest(given)
        files = sorted(file for file in given.rglob("*") if file.is_file())
        content["bundle"] = _hashes(files, given)
    else:
        content["teacher"] = teacher.model_dump(mode="json")
    return fingerprint(content)


def network_identity(recipe: Recipe) -> dict[str, Any]:
    """What determines the network of `teacher.pipeline`: what its pipeline says, and its bytes.

    Raises:
        BundleError: `teacher.pipeline` names no pipeline that can be used.
    """
    directory = pipeline_of(recipe)
    info = read_pipeline(directory)
    return {
        "pipeline": info.model_dump(mode="json"),
        "network": recipe.teacher.network.model_dump(mode="json"),
        "files": _hashes(network_files(directory, info.network_folder), directory),
    }


def pipeline_manifest(recipe: Recipe) -> Manifest:
    """The manifest of the network in `teacher.pipeline`, whose folder may stay its bundle.

    Raises:
        BundleError: `teacher.pipeline` names no pipeline that can be used.
    """
    from pipeline.models.assemble import fresh_manifest

    info = read_pipeline(pipeline_of(recipe))
    manifest = fresh_manifest(recipe.teacher, info.num_classes, info.latent_shape, _lineage(recipe))
    return manifest.model_copy(update={"pipeline": info.pipeline, "folder": info.network_folder})


def adopt_components(run_dir: Path, recipe: Recipe) -> Artifact:
    """The run's own copy of the teacher's pipeline but its network, committed at `components/`.

    Raises:
        BundleError: `teacher.pipeline` names no pipeline that can be used.
    """
    ledger = Ledger(run_dir)
    key = adopted_components_key(recipe)
    directory = pipeline_of(recipe)

    def write(folder: Path) -> dict[str, Any]:
        info = read_pipeline(directory)
        _copy(component_files(directory, info.network_folder), directory, folder)
        return {"adopted": True, "pipeline": info.pipeline}

    return ledger.find(key) or ledger.publish("components", key, "components", write)


def adopted_components_key(recipe: Recipe) -> str:
    """Fingerprint of adopted components: the bytes of their files.

    Raises:
        BundleError: `teacher.pipeline` names no pipeline that can be used.
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
    """The directory of `teacher.pipeline`."""
    if recipe.teacher.pipeline is None:
        raise ValueError("only the components of a `teacher.pipeline` are adopted")
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
        given = Path(recipe.teacher.bundle)
        manifest = read_manifest(given)
        holds = (manifest.role, manifest.latent_shape, manifest.num_classes)
        if holds != ("teacher", info.latent_shape, info.num_classes):
            raise BundleError(
                f"{given} is a {manifest.role} for samples of shape {manifest.latent_shape} in "
                f"{manifest.num_classes} classes; this recipe needs a teacher for "
                f"{info.latent_shape} in {info.num_classes}"
            )
        shutil.copytree(given, folder, dirs_exist_ok=True)
        return {"adopted": True}
    from pipeline.models.assemble import family_of, fresh_manifest, save_bundle

    manifest = fresh_manifest(recipe.teacher, info.num_classes, info.latent_shape, _lineage(recipe))
    save_bundle(folder, manifest, family_of(manifest).build())
    return {"closed_form": True}


def _write_pipeline(folder: Path, recipe: Recipe, data: Path) -> dict[str, Any]:
    """The network's own files under their stock name, and what the data has of the null."""
    directory = pipeline_of(recipe)
    info = read_pipeline(directory)
    shape = _shape_of(data)
    if shape != info.latent_shape:
        raise BundleError(
            f"{directory} denoises samples of shape {info.latent_shape}, the data in {data} have "
            f"{shape}; set data.size so that its autoencoder gives the former"
        )
    manifest = pipeline_manifest(recipe)
    _copy(network_files(directory, info.network_folder), directory, folder)
    if (data / _NULL).is_file():
        shutil.copyfile(data / _NULL, folder / _NULL)
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=1), encoding="utf-8")
    return {"adopted": True, "pipeline": info.pipeline}


def _lineage(recipe: Recipe) -> Lineage:
    return Lineage(run=recipe.run.name, round=None, parent=None)


def _shape_of(data: Path) -> tuple[int, int, int]:
    """(channels, height, width) of a sample, whether the data are encoded or as they came."""
    if (data / _LATENTS).is_file():
        return read_latents_info(data).latent_shape
    return read_info(data).latent_shape
