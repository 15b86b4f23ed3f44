"""Measurements of samples: outputs of the data set's classifier, and features of the extractors.

The classifier is trained once per run and committed.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.config import ExtractorConfig
from pipeline.config.profile import Profile
from pipeline.data.shards.dataset_info import read_info
from pipeline.evaluation.documents import SampleSpec
from pipeline.evaluation.features.extractor_weights import find_weights
from pipeline.ledger import Artifact, Ledger, fingerprint
from pipeline.run_dir import layout
from stages.evaluation.features import (
    HELDOUT,
    MEAN,
    MEANS,
    PROMPTS,
    TRAINING,
    ExtractorSpec,
    FeatureSource,
    classifier_spec,
    extract_features,
    extractor_spec,
)
from stages.workspace import Progress

if TYPE_CHECKING:
    from pipeline.evaluation.candidates import ClassifierResults, ExtractorFeatures

SampledCells = Sequence[tuple[SampleSpec, Artifact]]
"""Every cell with its committed samples."""

ExtractFeatures = Callable[[Ledger, ExtractorSpec, Sequence[FeatureSource]], dict[str, Path]]
"""Extracts features of sources; returns npy files by source name."""

_SEED = 0
_log = logging.getLogger(__name__)


def on_workers(profile: Profile, progress: Progress) -> ExtractFeatures:
    """Return a function that extracts missing features on Ray workers."""

    def extract(
        ledger: Ledger, extractor: ExtractorSpec, sources: Sequence[FeatureSource]
    ) -> dict[str, Path]:
        return extract_features(ledger, profile, extractor, sources, progress)

    return extract


def sample_sources(sampled: SampledCells) -> list[FeatureSource]:
    """Return the samples of every cell as feature sources, by file name."""
    return [
        FeatureSource(cell.file, samples, samples.details["count"]) for cell, samples in sampled
    ]


def heldout_source(ledger: Ledger, data: Artifact) -> FeatureSource:
    """Return the held-out images of a data set as feature source."""
    count = read_info(ledger.locate(data)).splits[HELDOUT].count
    return FeatureSource(f"{HELDOUT}.npy", data, count, HELDOUT)


@dataclass(frozen=True)
class FeatureFiles:
    """Extracted features, by source name."""

    places: dict[str, Path]

    def array(self, name: str) -> np.ndarray:
        """Load the features of a source, `[n, d]`."""
        features: np.ndarray = np.load(self.places[name], allow_pickle=False)
        return features


def classifier_of(ledger: Ledger, data: Artifact) -> Artifact:
    """Return the classifier of a data set with classes; train and commit it on first use."""
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
        _log.info("classifier: held-out accuracy %.1f %%", 100 * card.heldout_accuracy)
        return {"heldout_accuracy": card.heldout_accuracy}

    found = ledger.find(key)
    return found or ledger.publish("classifier", key, layout.CLASSIFIER, write, (data.fingerprint,))


def classifier_results(
    ledger: Ledger, data: Artifact, sampled: SampledCells, num: int, extract: ExtractFeatures
) -> "ClassifierResults":
    """Return the classifier outputs for everything that a report compares.

    Args:
        ledger: ledger of the run.
        data: a data set with classes.
        sampled: the samples, `num` per cell.
        num: samples per cell.
        extract: extracts features.
    """
    from pipeline.evaluation.candidates import ClassifierResults
    from pipeline.evaluation.dataset_images import labels_of, rows_with_class_counts
    from pipeline.evaluation.features.classifier import ClassifierOutputs
    from pipeline.sampling.conditions import choose_conditions

    classifier, place = classifier_of(ledger, data), ledger.locate(data)
    training = rows_with_class_counts(
        choose_conditions(place, num).labels, labels_of(place, "train")
    )
    sources = [
        *sample_sources(sampled),
        heldout_source(ledger, data),
        FeatureSource(f"{TRAINING}.npy", data, len(training), TRAINING, num),
        FeatureSource(f"{MEANS}.npy", data, num, MEANS, num),
    ]
    features = FeatureFiles(extract(ledger, classifier_spec(ledger, classifier), sources))

    def reading(name: str) -> ClassifierOutputs:
        return ClassifierOutputs.of(features.array(name))

    return ClassifierResults(
        classifier=ledger.locate(classifier),
        of=lambda cell: reading(cell.file),
        heldout=reading(f"{HELDOUT}.npy"),
        training=reading(f"{TRAINING}.npy"),
        means=reading(f"{MEANS}.npy"),
    )


def extractor_features(
    ledger: Ledger,
    extractor: ExtractorConfig,
    data: Artifact,
    sampled: SampledCells,
    num: int,
    extract: ExtractFeatures,
) -> "ExtractorFeatures":
    """Return the features of one extractor; other arguments as in `classifier_results`."""
    from pipeline.evaluation.candidates import ExtractorFeatures

    info, weights = read_info(ledger.locate(data)), find_weights(extractor)
    sources = sample_sources(sampled)
    if info.encoding is not None:
        sources.append(heldout_source(ledger, data))
    if info.captioned and weights.reads_prompts:
        sources.append(FeatureSource(f"{PROMPTS}.npy", data, num, PROMPTS, num))
    if not info.num_classes:
        teachers = [(cell, samples) for cell, samples in sampled if cell.role == "teacher"]
        sources += [FeatureSource(_mean(cell), samples, 1, MEAN) for cell, samples in teachers]
    features = FeatureFiles(extract(ledger, extractor_spec(extractor), sources))

    def array(name: str) -> np.ndarray | None:
        return features.array(name) if name in features.places else None

    return ExtractorFeatures(
        name=weights.name,
        sha256=weights.sha256,
        identity=weights.identity,
        distance=weights.distance,
        kind=f"{weights.kind}-{weights.sha256[:8]}",
        of=lambda cell: features.array(cell.file),
        heldout=array(f"{HELDOUT}.npy"),
        prompts=array(f"{PROMPTS}.npy"),
        mean_of=lambda cell: features.array(_mean(cell)).repeat(num, axis=0),
    )


def _mean(cell: SampleSpec) -> str:
    return f"{MEAN}-{cell.file}"
