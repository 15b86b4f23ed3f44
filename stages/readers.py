"""Who reads images: the data set's own classifier, and the extractors of a recipe.

A driver knows a reader by its identity and opens none; workers open it from JSON.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from pipeline.config import ExtractorConfig
from pipeline.errors import ConfigError
from pipeline.evaluation.weights import find_weights
from pipeline.ledger import Artifact, Ledger
from stages.sample_sets import CHUNK

if TYPE_CHECKING:
    from pipeline.evaluation.classifier import Classifier
    from pipeline.evaluation.sampling import Images

# On one core the classifier reads so many numbers, in images of 64 or more, in at most 2.2 s (8x8
# digits); a worker needs longer to start.
_FEW_VALUES = 2**23
_FEWEST_VALUES = 64


@dataclass(frozen=True)
class Reader:
    """A network that reads.

    Attributes:
        name: what a person calls it.
        identity: of all that it reads by; what has the same reads alike.
        sha256: of its weights.
        folder: a name for a folder of what it has read.
        how: what a worker opens it by.
        chunk: images of a job, by which jobs are cut and never by the number of workers.
        few: images up to which it has read them here before a worker has started.
        parents: fingerprints of the artifacts that it is.
    """

    name: str
    identity: str
    sha256: str
    folder: str
    how: dict[str, Any]
    chunk: int
    few: int = 0
    parents: tuple[str, ...] = ()


class OpenedReader(Protocol):
    """A reader where it reads; rows of what it returns are those of what it was given."""

    def read(self, images: "Images") -> np.ndarray:
        """What it sees in images `[n, h, w, c]`: `[n, d]`."""

    def read_prompts(self, prompts: Sequence[str]) -> np.ndarray:
        """What it sees in sentences: `[n, d]`."""


def extractor_reader(config: ExtractorConfig) -> Reader:
    """An extractor of the recipe; it reads features.

    Raises:
        ConfigError: its weights are missing, or are no mere data.
    """
    weights = find_weights(config)
    how = {"extractor": config.model_dump(mode="json"), "identity": weights.identity}
    return Reader(weights.name, weights.identity, weights.sha256, weights.folder, how, CHUNK)


def classifier_reader(ledger: Ledger, classifier: Artifact) -> Reader:
    """The data set's own classifier; it reads what `Reading.of` takes apart."""
    from pipeline.evaluation.classifier import CHUNK as AT_ONCE
    from pipeline.evaluation.classifier import READER, identity_of, read_card

    place = ledger.locate(classifier)
    values = math.prod(read_card(place).latent_shape)
    return Reader(
        name=READER,
        identity=classifier.digest,
        sha256=identity_of(place),
        folder=f"classifier-{classifier.digest[:12]}",
        how={"classifier": classifier.path},
        chunk=AT_ONCE,
        few=_FEW_VALUES // max(values, _FEWEST_VALUES),
        parents=(classifier.fingerprint,),
    )


def opened(run_dir: Path, how: dict[str, Any]) -> OpenedReader:
    """Open a reader, by `Reader.how`.

    Raises:
        ConfigError: an extractor has other weights on this machine.
    """
    if "classifier" in how:
        from pipeline.evaluation.classifier import Classifier

        return _ClassifierReader(Classifier(run_dir / how["classifier"]))
    from pipeline.evaluation.extractors import open_extractor

    weights = find_weights(ExtractorConfig.model_validate(how["extractor"]))
    if weights.identity != how["identity"]:
        raise ConfigError(
            f"{weights.path} holds other weights on this worker's machine than on the driver's; "
            "copy the same files to every machine"
        )
    return open_extractor(weights)


@dataclass(frozen=True)
class _ClassifierReader:
    classifier: "Classifier"

    def read(self, images: "Images") -> np.ndarray:
        return self.classifier.read(images).as_array

    def read_prompts(self, prompts: Sequence[str]) -> np.ndarray:
        raise ConfigError(f"a classifier does not read the prompts {prompts[:1]} ...")
