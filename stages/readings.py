"""What a report is measured in: readings of all that it compares, by the classifier or another."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from infra.profile import Profile
from pipeline.config import ExtractorConfig
from pipeline.data.shards import read_info
from pipeline.evaluation.protocol import Cell
from pipeline.evaluation.weights import find_weights
from pipeline.ledger import Artifact, Ledger
from stages.classifier import classifier_of
from stages.features import HELDOUT, MEAN, MEANS, PROMPTS, TRAINING, Source, read_features
from stages.readers import Reader, classifier_reader, extractor_reader
from stages.sample_sets import Progress

if TYPE_CHECKING:
    from pipeline.evaluation.comparing import OwnReadings, ReadSets

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
    from pipeline.evaluation.asking import asked_of
    from pipeline.evaluation.classifier import Reading
    from pipeline.evaluation.comparing import OwnReadings
    from pipeline.evaluation.real_splits import labels_of, rows_like

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
    from pipeline.evaluation.comparing import ReadSets

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
