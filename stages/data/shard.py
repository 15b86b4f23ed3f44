"""Stage `shard`: write a data source as tar shards, with a held-out split."""

import logging
from pathlib import Path
from typing import Any

from pipeline.config import Recipe
from pipeline.data.shards.writer import write_dataset
from pipeline.data.sources.datasets import identify, load_source
from pipeline.data.sources.quarantine import REPORT
from pipeline.ledger import FORMAT_VERSION, Artifact, fingerprint
from pipeline.run_dir import layout
from stages.data.class_order import in_teacher_order, teacher_classes
from stages.workspace import UNOBSERVED, Observer, StageResult, Workspace, find_or_make

_log = logging.getLogger(__name__)


def shard_key(recipe: Recipe) -> str:
    """Return the fingerprint of everything that determines the bytes of the shards.

    Raises:
        DataError: the source is missing, or does not match the recipe.
        BundleError: an existing teacher cannot be read.
    """
    content = {
        "stage": "shard",
        "format": FORMAT_VERSION,
        "data": identify(recipe.data, recipe.teacher.network),
        "seed": recipe.run.seed,
    }
    known = teacher_classes(recipe)
    return fingerprint(content | {"classes": known} if known else content)


def shard(work: Workspace, observer: Observer = UNOBSERVED) -> StageResult[Artifact]:
    """Write the recipe's data as shards into `data/` of the run, or reuse them.

    The details of the artifact are the number of samples in each split, of rejected samples and of
    classes (0 if samples have none), the shape of a sample, and notes on the samples.

    Raises:
        DataError: the source is missing, or does not match the recipe; nothing is committed.
        BundleError: an existing teacher cannot be read.
        ConfigError: its classes are not those of the data.
    """
    key = shard_key(work.recipe)
    return find_or_make(work.ledger, key, observer, lambda: _shard(work, key))


def _shard(work: Workspace, key: str) -> Artifact:
    ledger, recipe = work.ledger, work.recipe
    samples = in_teacher_order(
        recipe, load_source(recipe.data, recipe.run.seed, recipe.teacher.network)
    )

    def write(folder: Path) -> dict[str, Any]:
        info = write_dataset(folder, samples, recipe.data)
        counts = {split: content.count for split, content in info.splits.items()}
        return {
            **counts,
            "set_aside": samples.total - sum(counts.values()),
            "num_classes": info.num_classes,
            "latent_shape": list(info.latent_shape),
            **({"notes": list(notes)} if (notes := samples.findings.sentences) else {}),
        }

    artifact = ledger.publish("data", key, layout.DATA, write)
    _log.info(
        "data: %d training samples, %d held out, %s, in %s",
        artifact.details["train"],
        artifact.details["heldout"],
        f"{classes} classes" if (classes := artifact.details["num_classes"]) else "no classes",
        ledger.locate(artifact),
    )
    if artifact.details["set_aside"]:
        _log.warning(
            "data: %d unusable samples were quarantined; reasons in %s",
            artifact.details["set_aside"],
            ledger.locate(artifact) / REPORT,
        )
    for note in artifact.details.get("notes", ()):
        _log.warning("data: %s", note)
    return artifact
