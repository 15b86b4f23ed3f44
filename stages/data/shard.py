"""Stage `shard`: a data source becomes webdataset tars, with a share of it held out."""

import logging
from pathlib import Path
from typing import Any

from pipeline.config import Recipe
from pipeline.data.shards.writer import write_dataset
from pipeline.data.sources.datasets import identify, load_source
from pipeline.data.sources.quarantine import REPORT
from pipeline.ledger import FORMAT_VERSION, Artifact, Ledger, fingerprint

_log = logging.getLogger(__name__)


def shard_key(recipe: Recipe) -> str:
    """The fingerprint of the recipe's data: all that determines the bytes of its shards.

    Raises:
        DataError: the source is missing, or not what the recipe says.
    """
    return fingerprint(
        {
            "stage": "shard",
            "format": FORMAT_VERSION,
            "data": identify(recipe.data, recipe.teacher.network),
            "seed": recipe.run.seed,
        }
    )


def shard(recipe: Recipe, run_dir: Path) -> Artifact:
    """Write the recipe's data as shards into `data/` of the run, or find it there.

    The details of the artifact are the number of samples of each split, of those set aside, of
    classes (0 if samples have none), and the shape of a sample.

    Raises:
        DataError: the source is missing, or not what the recipe says; nothing was committed.
    """
    ledger = Ledger(run_dir)
    key = shard_key(recipe)
    found = ledger.find(key)
    if found is not None:
        return found
    samples = load_source(recipe.data, recipe.run.seed, recipe.teacher.network)

    def write(folder: Path) -> dict[str, Any]:
        info = write_dataset(folder, samples, recipe.data)
        counts = {split: content.count for split, content in info.splits.items()}
        return {
            **counts,
            "set_aside": samples.total - sum(counts.values()),
            "num_classes": info.num_classes,
            "latent_shape": list(info.latent_shape),
        }

    artifact = ledger.publish("data", key, "data", write)
    _log.info(
        "data: %d samples to train on and %d held out, of %s, in %s",
        artifact.details["train"],
        artifact.details["heldout"],
        f"{classes} classes" if (classes := artifact.details["num_classes"]) else "no classes",
        ledger.locate(artifact),
    )
    if artifact.details["set_aside"]:
        _log.warning(
            "data: %d samples could not be used and were set aside; %s says why",
            artifact.details["set_aside"],
            ledger.locate(artifact) / REPORT,
        )
    return artifact
