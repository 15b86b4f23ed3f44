"""The classifier of a data set with classes: trained once in the life of a run, and committed."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.config import ExtractorConfig
from pipeline.config.profile import Profile
from pipeline.data.shards.dataset_info import read_info
from pipeline.evaluation.documents import Cell
from pipeline.evaluation.features.extractor_weights import find_weights
from pipeline.ledger import Artifact, Ledger, fingerprint
from stages.evaluation.features import (
    HELDOUT,
    MEAN,
    MEANS,
    PROMPTS,
    TRAINING,
    Reader,
    Source,
    classifier_reader,
    extractor_reader,
    read_features,
)
from stages.evaluation.sample_sets import Progress

_SEED = 0

_log = logging.getLogger(__name__)


def classifier_of(ledger: Ledger, data: Artifact) -> Artifact:
    """The classifier of a sharded data set with classes; trained here if nobody has yet."""
    from pipeline.evaluation.dataset_images import real_images
    from pipeline.evaluation.features.classifier import FORMAT, train_classifier

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


if TYPE_CHECKING:
    from pipeline.evaluation.candidates import OwnReadings, ReadSets

Drawn = Sequence[tuple[Cell, Artifact]]
"""The committed samples of every cell."""

Read = Callable[[Ledger, Reader, Sequence[Source]], dict[str, Path]]
"""Where what a reader sees in each source lies, by its name."""


def on_workers(profile: Profile, progress: Progress) -> Read:
    """Have Ray workers read what is not committed yet."""

    def read(ledger: Ledger, reader: Reader, sources: Sequence[Source]) -> dict[str, Path]:
        return read_features(ledger, profile, reader, sources, progress)

    return read


def sample_sources(drawn: Drawn) -> list[Source]:
    """The samples of every cell, by the name of its file."""
    return [Source(cell.file, samples, samples.details["count"]) for cell, samples in drawn]


def heldout_source(ledger: Ledger, data: Artifact) -> Source:
    """The held-out images of a data set that has images."""
    count = read_info(ledger.locate(data)).splits[HELDOUT].count
    return Source(f"{HELDOUT}.npy", data, count, HELDOUT)


@dataclass(frozen=True)
class Readings:
    """What has been read, as arrays, by the name of its source."""

    places: dict[str, Path]

    def array(self, name: str) -> np.ndarray:
        """What was read of a source, `[n, d]`."""
        found: np.ndarray = np.load(self.places[name], allow_pickle=False)
        return found


def own_readings(
    ledger: Ledger, data: Artifact, drawn: Drawn, num: int, read: Read
) -> "OwnReadings":
    """What the classifier of a data set with classes sees in all that a report of it compares.

    Args:
        ledger: of the run.
        data: the data set.
        drawn: the samples, `num` of each cell.
        num: samples a cell.
        read: has them read.
    """
    from pipeline.evaluation.candidates import OwnReadings
    from pipeline.evaluation.dataset_images import labels_of, rows_like
    from pipeline.evaluation.features.classifier import Reading
    from pipeline.sampling.conditions import asked_of

    classifier, place = classifier_of(ledger, data), ledger.locate(data)
    training = rows_like(asked_of(place, num).labels, labels_of(place, "train"))
    sources = [
        *sample_sources(drawn),
        heldout_source(ledger, data),
        Source(f"{TRAINING}.npy", data, len(training), TRAINING, num),
        Source(f"{MEANS}.npy", data, num, MEANS, num),
    ]
    found = Readings(read(ledger, classifier_reader(ledger, classifier), sources))

    def reading(name: str) -> Reading:
        return Reading.of(found.array(name))

    return OwnReadings(
        classifier=ledger.locate(classifier),
        of=lambda cell: reading(cell.file),
        heldout=reading(f"{HELDOUT}.npy"),
        training=reading(f"{TRAINING}.npy"),
        means=reading(f"{MEANS}.npy"),
    )


def extractor_readings(
    ledger: Ledger,
    extractor: ExtractorConfig,
    data: Artifact,
    drawn: Drawn,
    num: int,
    read: Read,
) -> "ReadSets":
    """What an extractor sees in all that a report compares; arguments as of `own_readings`."""
    from pipeline.evaluation.candidates import ReadSets

    info, weights = read_info(ledger.locate(data)), find_weights(extractor)
    sources = sample_sources(drawn)
    if info.encoding is not None:
        sources.append(heldout_source(ledger, data))
    if info.captioned and weights.reads_prompts:
        sources.append(Source(f"{PROMPTS}.npy", data, num, PROMPTS, num))
    if not info.num_classes:
        teachers = [(cell, samples) for cell, samples in drawn if cell.role == "teacher"]
        sources += [Source(_mean(cell), samples, 1, MEAN) for cell, samples in teachers]
    found = Readings(read(ledger, extractor_reader(extractor), sources))

    def array(name: str) -> np.ndarray | None:
        return found.array(name) if name in found.places else None

    return ReadSets(
        name=weights.name,
        sha256=weights.sha256,
        identity=weights.identity,
        distance=weights.distance,
        kind=f"{weights.kind}-{weights.sha256[:8]}",
        of=lambda cell: found.array(cell.file),
        heldout=array(f"{HELDOUT}.npy"),
        prompts=array(f"{PROMPTS}.npy"),
        mean_of=lambda cell: found.array(_mean(cell)).repeat(num, axis=0),
    )


def _mean(cell: Cell) -> str:
    return f"{MEAN}-{cell.file}"
