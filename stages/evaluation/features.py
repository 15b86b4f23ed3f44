"""Features of samples and data, extracted by Ray workers and committed per source.

The classifier of a data set is trained once per run and committed.

An extractor is the data set's own classifier or one of the recipe's extractors. The driver handles
its `ExtractorSpec` only; workers load the network from JSON.
"""

import contextlib
import functools
import logging
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from infra.launch import run_jobs
from infra.ray.cluster import cluster
from pipeline.config import ExtractorConfig
from pipeline.config.profile import Profile
from pipeline.data.shards.dataset_info import read_info
from pipeline.errors import ConfigError
from pipeline.evaluation.documents import SampleSpec
from pipeline.evaluation.features.extractor_weights import find_weights
from pipeline.ledger import Artifact, Ledger, fingerprint
from pipeline.run_dir import layout
from pipeline.run_dir.layout import RunDir
from stages.evaluation.sample_sets import CHUNK, complete_sets, join_parts, write_part
from stages.workspace import Progress

if TYPE_CHECKING:
    from pipeline.evaluation.candidates import ClassifierResults, ExtractorFeatures
    from pipeline.evaluation.features.classifier import Classifier
    from pipeline.sampling.sampler import Images

FORMAT = 2  # 2: classes in the shares of the held-out images
HELDOUT, PROMPTS, TRAINING, MEANS = "heldout", "prompts", "training", "means"
MEAN = "mean"
# Values that the classifier processes on one core in at most 2.2 s (8x8 digits), in images of 64
# values or more; a worker takes longer to start.
_FEW_VALUES = 2**23
_FEWEST_VALUES = 64
_SCRATCH = Path(layout.EVALUATION) / ".features.tmp"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExtractorSpec:
    """A feature extractor that is not loaded.

    Attributes:
        name: display name.
        identity: fingerprint of everything that determines its features.
        sha256: digest of its weights.
        folder: folder name of its features.
        load_spec: JSON with which a worker loads it.
        chunk: images per job, whatever the number of workers.
        few: number of images up to which the driver extracts faster than a worker starts.
        parents: fingerprints of its artifacts.
    """

    name: str
    identity: str
    sha256: str
    folder: str
    load_spec: dict[str, Any]
    chunk: int
    few: int = 0
    parents: tuple[str, ...] = ()


class FeatureExtractor(Protocol):
    """A loaded extractor; it returns one row of features per input."""

    def read(self, images: "Images") -> np.ndarray:
        """Extract features of images `[n, h, w, c]`: `[n, d]`."""

    def read_prompts(self, prompts: Sequence[str]) -> np.ndarray:
        """Extract features of prompts: `[n, d]`."""


@dataclass(frozen=True)
class FeatureSource:
    """Input of an extractor: a file of samples, or a part of the data set.

    Attributes:
        name: file name of its features.
        artifact: samples or data set.
        count: number of rows.
        kind: "" for samples; `mean` for the mean image of samples; or a part of the data set:
            held-out images (`heldout`), prompts of the samples (`prompts`), training images with
            the class counts of the samples (`training`), or the mean image of each sample's class
            (`means`).
        num_samples: number of samples that `prompts`, `training` and `means` correspond to. For
            `training`, more samples only append rows, so `count` identifies the content.
    """

    name: str
    artifact: Artifact
    count: int
    kind: str = ""
    num_samples: int = 0


def extract_features(
    ledger: Ledger,
    profile: Profile,
    extractor: ExtractorSpec,
    sources: Sequence[FeatureSource],
    progress: Progress,
) -> dict[str, Path]:
    """Extract the features of every source, `[n, d]`; return npy files by source name.

    Features are artifacts of kind `features` in `evaluation/features/`. Workers extract those that
    are missing; a small number of images is processed in the driver, in the same parts. An
    interrupted extraction resumes. `progress` is called with (parts done, parts in all).

    Raises:
        ConfigError: an extractor has other weights on a worker's machine.
    """
    keys = {source.name: _key(extractor, source) for source in sources}
    by_key = {keys[source.name]: source for source in sources}  # equal content is read once
    owners = {_place(extractor, source): keys[source.name] for source in sources}
    done = {key: found for key in by_key if (found := _find(ledger, key, owners))}
    missing = {key: source for key, source in by_key.items() if key not in done}
    _log.info("%s: feature sets reused=%d, to extract=%d", extractor.name, len(done), len(missing))
    if missing:
        spec = {"run_dir": str(ledger.run_dir.resolve()), "extractor": extractor.load_spec}
        is_quick = sum(source.count for source in missing.values()) <= extractor.few
        with (
            contextlib.nullcontext() if is_quick else cluster(profile, RunDir(ledger.run_dir).logs)
        ):
            jobs = _jobs(missing, extractor.chunk)
            results = (
                map(open_worker(spec), jobs)
                if is_quick
                else run_jobs("stages.evaluation.features:open_worker", spec, jobs, profile)
            )
            for key, parts, _ in complete_sets(results, jobs, progress):
                done[key] = _commit(ledger, key, extractor, missing[key], parts)
        shutil.rmtree(ledger.run_dir / _SCRATCH, ignore_errors=True)
    return {name: ledger.locate(done[key]) for name, key in keys.items()}


def extractor_spec(config: ExtractorConfig) -> ExtractorSpec:
    """Return the spec of an extractor of the recipe.

    Raises:
        ConfigError: its weights are missing, or are not a data-only file.
    """
    weights = find_weights(config)
    load_spec = {"extractor": config.model_dump(mode="json"), "identity": weights.identity}
    return ExtractorSpec(
        weights.name, weights.identity, weights.sha256, weights.folder, load_spec, CHUNK
    )


def classifier_spec(ledger: Ledger, classifier: Artifact) -> ExtractorSpec:
    """Return the spec of the classifier, whose features are `ClassifierOutputs.as_array`."""
    from pipeline.evaluation.features.classifier import CHUNK as AT_ONCE
    from pipeline.evaluation.features.classifier import CLASSIFIER_NAME, identity_of, read_card

    place = ledger.locate(classifier)
    values = math.prod(read_card(place).latent_shape)
    return ExtractorSpec(
        name=CLASSIFIER_NAME,
        identity=classifier.digest,
        sha256=identity_of(place),
        folder=f"classifier-{classifier.digest[:12]}",
        load_spec={"classifier": classifier.path},
        chunk=AT_ONCE,
        few=_FEW_VALUES // max(values, _FEWEST_VALUES),
        parents=(classifier.fingerprint,),
    )


def load_extractor(run_dir: Path, load_spec: dict[str, Any]) -> FeatureExtractor:
    """Load an extractor from `ExtractorSpec.load_spec`.

    Raises:
        ConfigError: the extractor has other weights on this machine.
    """
    if "classifier" in load_spec:
        from pipeline.evaluation.features.classifier import Classifier

        return _ClassifierExtractor(Classifier(run_dir / load_spec["classifier"]))
    from pipeline.evaluation.features.extractors import open_extractor

    weights = find_weights(ExtractorConfig.model_validate(load_spec["extractor"]))
    if weights.identity != load_spec["identity"]:
        raise ConfigError(
            f"{weights.path}: the weights on this worker's machine differ from the driver's; copy "
            "the same files to every machine"
        )
    return open_extractor(weights)


@dataclass(frozen=True)
class _ClassifierExtractor:
    classifier: "Classifier"

    def read(self, images: "Images") -> np.ndarray:
        return self.classifier.read(images).as_array

    def read_prompts(self, prompts: Sequence[str]) -> np.ndarray:
        raise ConfigError(f"a classifier has no features of prompts, got {prompts[:1]} ...")


def _find(ledger: Ledger, key: str, owners: dict[str, str]) -> Artifact | None:
    """Return committed features, unless they lie at the path of another source of this call.

    They were written there when that source had the same content, and are about to be overwritten.
    """
    found = ledger.find(key)
    return found if found and owners.get(found.path, key) == key else None


def _place(extractor: ExtractorSpec, source: FeatureSource) -> str:
    return f"{layout.FEATURES}/{extractor.folder}/{source.count}-{source.name}"


def _jobs(missing: dict[str, FeatureSource], chunk: int) -> list[dict[str, Any]]:
    return [
        {
            "key": key,
            "place": source.artifact.path,
            "kind": source.kind,
            "num_samples": source.num_samples,
            "first": first,
            "count": min(chunk, source.count - first),
            "part": str(_SCRATCH / f"{key[:32]}-{first:09d}.npy"),
        }
        for key, source in missing.items()
        for first in range(0, source.count, chunk)
    ]


def open_worker(spec: dict[str, Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return a function that extracts the features of some rows of one source per call."""
    run_dir = Path(spec["run_dir"])
    extractor = load_extractor(run_dir, spec["extractor"])
    images, prompts = _openers()

    def serve(job: dict[str, Any]) -> dict[str, Any]:
        rows, place = slice(job["first"], job["first"] + job["count"]), run_dir / job["place"]

        def extract() -> np.ndarray:
            if job["kind"] == PROMPTS:
                return extractor.read_prompts(prompts(place, job["num_samples"])[rows])
            return extractor.read(images(place, job["kind"], job["num_samples"], rows))

        write_part(run_dir / job["part"], extract)
        return {"key": job["key"], "part": job["part"]}

    return serve


def _openers() -> tuple[
    Callable[[Path, str, int, slice], np.ndarray], Callable[[Path, int], Sequence[str]]
]:
    """Return functions that load images and prompts; both cache what the next job needs."""
    from pipeline.evaluation.dataset_images import (
        class_means,
        images_at,
        labels_of,
        real_images,
        rows_with_class_counts,
    )
    from pipeline.sampling.conditions import choose_conditions
    from pipeline.sampling.sampler import check_finite

    conditions = functools.lru_cache(maxsize=1)(choose_conditions)

    @functools.lru_cache(maxsize=1)
    def means_of(place: Path) -> np.ndarray:
        return class_means(*real_images(place, "train"))

    @functools.lru_cache(maxsize=1)
    def training_rows(place: Path, num_samples: int) -> np.ndarray:
        return rows_with_class_counts(
            conditions(place, num_samples).labels, labels_of(place, "train")
        )

    def images(place: Path, kind: str, num_samples: int, rows: slice) -> np.ndarray:
        if kind == HELDOUT:
            return images_at(place, "heldout", np.arange(rows.start, rows.stop))
        if kind == TRAINING:
            return images_at(place, "train", training_rows(place, num_samples)[rows])
        if kind == MEANS:
            means: np.ndarray = means_of(place)[conditions(place, num_samples).labels[rows]]
            return means
        samples = np.load(place, mmap_mode="r", allow_pickle=False)
        chosen = samples.mean(0, keepdims=True) if kind == MEAN else np.array(samples[rows])
        check_finite(chosen, f"samples in {place}", 0 if kind == MEAN else rows.start)
        return chosen

    return images, lambda place, num_samples: conditions(place, num_samples).prompts or ()


def _key(extractor: ExtractorSpec, source: FeatureSource) -> str:
    content = {"content": source.artifact.digest, "what": source.kind, "count": source.count}
    settings = {"stage": "features", "format": FORMAT, "weights": extractor.identity}
    return fingerprint(content | settings | {"chunk": extractor.chunk})


def _commit(
    ledger: Ledger, key: str, extractor: ExtractorSpec, source: FeatureSource, parts: Sequence[str]
) -> Artifact:
    def write(path: Path) -> dict[str, Any]:
        count = join_parts(ledger.run_dir, parts, path)
        return {"count": count, "weights_sha256": extractor.sha256}

    parents = (source.artifact.fingerprint, *extractor.parents)
    return ledger.publish("features", key, _place(extractor, source), write, parents)


SampledCells = Sequence[tuple[SampleSpec, Artifact]]
"""Every cell with its committed samples."""

ExtractFeatures = Callable[[Ledger, ExtractorSpec, Sequence[FeatureSource]], dict[str, Path]]
"""Extracts features of sources; returns npy files by source name."""

_SEED = 0


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
    from pipeline.evaluation.dataset_images import labels_of

    info, weights = read_info(ledger.locate(data)), find_weights(extractor)
    sources = sample_sources(sampled)
    heldout_labels = labels_of(ledger.locate(data), HELDOUT)
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
        heldout_labels=heldout_labels,
        prompts=array(f"{PROMPTS}.npy"),
        mean_of=lambda cell: features.array(_mean(cell)).repeat(num, axis=0),
    )


def _mean(cell: SampleSpec) -> str:
    return f"{MEAN}-{cell.file}"
