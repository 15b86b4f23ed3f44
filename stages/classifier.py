"""The classifier of a data set with classes: trained once in the life of a run, and committed."""

import logging
from pathlib import Path
from typing import Any

from pipeline.data.shards import read_info
from pipeline.ledger import Artifact, Ledger, fingerprint

_SEED = 0

_log = logging.getLogger(__name__)


def classifier_of(ledger: Ledger, data: Artifact) -> Artifact:
    """The classifier of a sharded data set with classes; trained here if nobody has yet."""
    from pipeline.evaluation.classifier import FORMAT, train_classifier
    from pipeline.evaluation.real_splits import real_images

    content = {"stage": "classifier", "format": FORMAT, "data": data.digest, "seed": _SEED}
    key = fingerprint(content)

    def write(folder: Path) -> dict[str, Any]:
        at = ledger.locate(data)
        card = train_classifier(
            folder,
            real_images(at, "train"),
            real_images(at, "heldout"),
            num_classes=read_info(at).num_classes,
            seed=_SEED,
        )
        _log.info("classifier: %.1f %% of held-out images right", 100 * card.heldout_accuracy)
        return {"heldout_accuracy": card.heldout_accuracy}

    found = ledger.find(key)
    return found or ledger.publish(
        "classifier", key, "evaluation/classifier", write, (data.fingerprint,)
    )
