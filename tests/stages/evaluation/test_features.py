"""Feature extraction: by workers, once per content."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import ConfigError
from pipeline.evaluation.dataset_images import class_means, real_images, rows_with_class_counts
from pipeline.evaluation.features.classifier import (
    CHUNK,
    Classifier,
    ClassifierOutputs,
    train_classifier,
)
from pipeline.evaluation.features.extractor_weights import find_weights
from pipeline.evaluation.features.extractors import open_extractor
from pipeline.ledger import Artifact, Ledger
from pipeline.sampling.sampler import balanced_labels
from pipeline.verification.examine import examine
from stages.data.shard import shard
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
    load_extractor,
    open_worker,
)
from stages.evaluation.sample_sets import write_array
from stages.workspace import Workspace
from tests.support.extractor_weights import write_clip, write_dino
from tests.support.recipes import INLINE, shipped_recipe

COUNT = 5


def small_data(run_dir: Path) -> Artifact:
    data = "data={source: captioned_digits, count: 30, holdout_count: 10}"
    return shard(Workspace(run_dir, shipped_recipe("captions", data))).value


def samples(
    ledger: Ledger, name: str, seed: int, shape: tuple[int, ...] = (COUNT, 8, 8, 1)
) -> FeatureSource:
    images = np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)

    def write(path: Path) -> dict[str, int]:
        write_array(path, images)
        return {"count": len(images)}

    artifact = ledger.publish("samples", f"{seed}" * 64, f"evaluation/{name}", write)
    return FeatureSource(name, artifact, len(images))


def test_a_job_reads_its_rows_of_images_and_of_prompts(tmp_path: Path) -> None:
    data = small_data(tmp_path)
    config = write_clip(tmp_path / "clip")
    how = extractor_spec(config).load_spec
    serve = open_worker({"run_dir": str(tmp_path), "extractor": how})
    job = {"key": "k", "place": data.path, "num_samples": 6, "first": 2, "count": 3}
    serve({**job, "kind": HELDOUT, "part": "images.npy"})
    serve({**job, "kind": PROMPTS, "part": "prompts.npy"})
    drawn = samples(Ledger(tmp_path), "drawn.npy", 1).artifact.path
    mean = {"place": drawn, "kind": MEAN, "first": 0, "count": 1, "part": "mean.npy"}
    serve({**job, **mean})
    heldout, _ = real_images(tmp_path / data.path, HELDOUT)
    seen = open_extractor(find_weights(config)).read(heldout[2:5])
    np.testing.assert_array_equal(np.load(tmp_path / "images.npy"), seen)
    assert np.load(tmp_path / "prompts.npy").shape == (3, 12)
    of_all = np.load(tmp_path / drawn).mean(0, keepdims=True)
    seen = open_extractor(find_weights(config)).read(of_all)
    np.testing.assert_array_equal(np.load(tmp_path / "mean.npy"), seen)
    with pytest.raises(ConfigError, match="copy the same files"):
        load_extractor(tmp_path, {**how, "identity": "0" * 64})


def classifier(ledger: Ledger, data: Artifact) -> Artifact:
    """An untrained classifier, committed like the stage's own."""
    real = [real_images(ledger.locate(data), split) for split in ("train", "heldout")]

    def write(folder: Path) -> dict[str, int]:
        train_classifier(folder, *real, num_classes=10, seed=0, updates=2)
        return {}

    return ledger.publish("classifier", "c" * 64, "evaluation/classifier", write)


def classified(ledger: Ledger, data: Artifact, count: int) -> list[FeatureSource]:
    """Samples, and all classifier inputs from a data set."""
    return [
        samples(ledger, "b.npy", 2, (count, 16, 16, 3)),
        FeatureSource("heldout.npy", data, 10, HELDOUT),
        FeatureSource("training.npy", data, 20, TRAINING, 20),
        FeatureSource("means.npy", data, 20, MEANS, 20),
    ]


def seen_whole(
    ledger: Ledger, data: Artifact, seer: Classifier, count: int
) -> dict[str, ClassifierOutputs]:
    """The same features, computed directly by the classifier."""
    place = ledger.locate(data)
    labels = balanced_labels(20, 10)
    training, training_labels = real_images(place, "train")
    images = {
        "b.npy": np.load(ledger.run_dir / "evaluation/b.npy"),
        "heldout.npy": real_images(place, HELDOUT)[0],
        "training.npy": training[rows_with_class_counts(labels, training_labels)],
        "means.npy": class_means(training, training_labels)[labels],
    }
    assert len(images["b.npy"]) == count
    return {name: seer.read(array) for name, array in images.items()}


def test_few_images_are_read_in_the_driver_with_equal_results(tmp_path: Path) -> None:
    ledger, data = Ledger(tmp_path), small_data(tmp_path)
    reader = classifier_spec(ledger, classifier(ledger, data))
    count = CHUNK + 3
    assert reader.few > count + 50
    told: list[tuple[int, int]] = []
    places = extract_features(
        ledger,
        INLINE,
        reader,
        classified(ledger, data, count),
        lambda done, total: told.append((done, total)),
    )
    assert told == [(done, 5) for done in (1, 2, 3, 4, 5)]
    assert not (tmp_path / "logs").exists()  # no cluster has been here
    expected = seen_whole(ledger, data, Classifier(tmp_path / "evaluation/classifier"), count)
    for name, reading in expected.items():
        found = ClassifierOutputs.of(np.load(places[name]))
        np.testing.assert_array_equal(found.features, reading.features)
        np.testing.assert_array_equal(found.probabilities, reading.probabilities)
    assert examine(tmp_path).damaged == ()


def test_sets_that_no_longer_agree_are_read_separately(tmp_path: Path) -> None:
    ledger, data = Ledger(tmp_path), small_data(tmp_path)
    reader = classifier_spec(ledger, classifier(ledger, data))

    def read(*sources: FeatureSource) -> list[ClassifierOutputs]:
        places = extract_features(ledger, INLINE, reader, sources, lambda done, total: None)
        return [ClassifierOutputs.of(np.load(places[source.name])) for source in sources]

    one = samples(ledger, "one.npy", 1, (COUNT, 16, 16, 3))
    alike = read(one, FeatureSource("two.npy", one.artifact, COUNT))
    np.testing.assert_array_equal(alike[0].features, alike[1].features)
    other = samples(ledger, "other.npy", 2, (COUNT, 16, 16, 3))
    apart = read(one, FeatureSource("two.npy", other.artifact, COUNT))
    np.testing.assert_array_equal(apart[0].features, alike[0].features)
    assert not np.array_equal(apart[1].features, alike[0].features)


def test_features_are_reused(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "run")
    data = small_data(tmp_path / "run")
    drawn = samples(ledger, "a.npy", 1)
    twin = FeatureSource("twin.npy", drawn.artifact, COUNT)  # the same samples by another name
    sources = [drawn, twin, FeatureSource("real.npy", data, 10, HELDOUT)]
    dino = extractor_spec(write_dino(tmp_path / "dino"))
    jobs: list[tuple[int, int]] = []

    def read(reader: ExtractorSpec, sources: list[FeatureSource]) -> dict[str, Path]:
        jobs.clear()
        return extract_features(
            ledger, INLINE, reader, sources, lambda done, total: jobs.append((done, total))
        )

    first = read(dino, sources)
    assert jobs == [(1, 2), (2, 2)]
    assert {name: np.load(path).shape for name, path in first.items()} == {
        "a.npy": (COUNT, 16),
        "twin.npy": (COUNT, 16),
        "real.npy": (10, 16),
    }
    times = {path: path.stat().st_mtime_ns for path in first.values()}
    assert read(dino, sources) == first
    assert jobs == []
    assert {path: path.stat().st_mtime_ns for path in first.values()} == times
    kinds = [artifact.kind for artifact in ledger.records()]
    assert kinds.count("features") == 2
    assert not (tmp_path / "run/evaluation/.features.tmp").exists()
