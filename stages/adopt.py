"""Take in a teacher that is not trained here: a bundle from elsewhere, or a closed form."""

import shutil
from pathlib import Path
from typing import Any

from pipeline.bundle import Lineage, read_manifest
from pipeline.config import Recipe
from pipeline.data.shards import read_info
from pipeline.errors import BundleError
from pipeline.ledger import FORMAT_VERSION, Artifact, Ledger, fingerprint, hash_file


def adopt(run_dir: Path, recipe: Recipe, data: Artifact) -> Artifact:
    """The run's own copy of the teacher, committed at `teacher/`.

    Raises:
        BundleError: the bundle does not fit the data or the recipe.
    """
    ledger = Ledger(run_dir)
    key = adopt_key(recipe, data)
    return ledger.find(key) or ledger.publish(
        "teacher", key, "teacher", lambda folder: _write(folder, ledger, recipe, data)
    )


def adopt_key(recipe: Recipe, data: Artifact) -> str:
    """Fingerprint of the adopted teacher: the bytes of the bundle, or the closed form."""
    given = recipe.teacher.bundle
    content: dict[str, Any] = {"stage": "adopt", "format": FORMAT_VERSION, "data": data.digest}
    if given is None:
        content["teacher"] = recipe.teacher.model_dump(mode="json")
    else:
        read_manifest(Path(given))
        files = sorted(file for file in Path(given).rglob("*") if file.is_file())
        content["bundle"] = {
            file.relative_to(given).as_posix(): hash_file(file).sha256 for file in files
        }
    return fingerprint(content)


def _write(folder: Path, ledger: Ledger, recipe: Recipe, data: Artifact) -> dict[str, Any]:
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

    lineage = Lineage(run=recipe.run.name, round=None, parent=None)
    manifest = fresh_manifest(recipe.teacher, info.num_classes, info.latent_shape, lineage)
    save_bundle(folder, manifest, family_of(manifest).build())
    return {"closed_form": True}
