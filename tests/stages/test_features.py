"""The stage: features are read by workers once, and kept by content."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from infra.profile import Profile
from infra.ray_cluster import cluster
from pipeline.config import Recipe
from pipeline.documents import apply_override, build, read_yaml
from pipeline.errors import ConfigError
from pipeline.evaluation.assessment import real_images
from pipeline.evaluation.extractors import open_extractor
from pipeline.evaluation.weights import find_weights
from pipeline.ledger import Artifact, Ledger
from stages.features import HELDOUT, PROMPTS, Source, open_reader, read_features
from stages.sample_sets import write_array
from stages.shard import shard
from tests.extractor_weights import write_clip, write_dino

RECIPES = Path(__file__).resolve().parents[2] / "flows" / "recipes"
COUNT = 5
ONE_WORKER = Profile.model_validate({"compute": {"workers": 1}})


def small_data(run_dir: Path) -> Artifact:
    tree = read_yaml(RECIPES / "captions.yaml")
    tree.pop("$schema", None)
    apply_override(tree, "data={source: captioned_digits, count: 30, holdout_count: 10}")
    return shard(build(Recipe, tree, "captions.yaml"), run_dir)


def samples(ledger: Ledger, name: str, seed: int) -> Source:
    images = np.random.default_rng(seed).uniform(-1, 1, (COUNT, 8, 8, 1)).astype(np.float32)

    def write(path: Path) -> dict[str, int]:
        write_array(path, images)
        return {"count": COUNT}

    artifact = ledger.publish("samples", f"{seed}" * 64, f"evaluation/{name}", write)
    return Source(name, artifact, COUNT)


def test_a_job_reads_its_rows_of_images_and_of_prompts(tmp_path: Path) -> None:
    data = small_data(tmp_path)
    config = write_clip(tmp_path / "clip")
    weights = find_weights(config)
    spec = {
        "run_dir": str(tmp_path),
        "extractor": config.model_dump(mode="json"),
        "identity": weights.identity,
    }
    serve = open_reader(spec)
    job = {"key": "k", "place": data.path, "num": 6, "first": 2, "count": 3}
    serve({**job, "what": HELDOUT, "part": "images.npy"})
    serve({**job, "what": PROMPTS, "part": "prompts.npy"})
    heldout, _ = real_images(tmp_path / data.path, HELDOUT)
    seen = open_extractor(weights).read(heldout[2:5])
    np.testing.assert_array_equal(np.load(tmp_path / "images.npy"), seen)
    assert np.load(tmp_path / "prompts.npy").shape == (3, 12)
    with pytest.raises(ConfigError, match="other weights on this worker's machine"):
        open_reader({**spec, "identity": "0" * 64})


@pytest.fixture
def ray(tmp_path: Path) -> Iterator[None]:
    with cluster(ONE_WORKER, tmp_path / "logs"):
        yield


@pytest.mark.cluster
@pytest.mark.usefixtures("ray")
def test_what_was_read_once_is_not_read_again(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "run")
    data = small_data(tmp_path / "run")
    drawn = samples(ledger, "a.npy", 1)
    twin = Source("twin.npy", drawn.artifact, COUNT)  # the same samples by another name
    sources = [drawn, twin, Source("real.npy", data, 10, HELDOUT)]
    config = write_dino(tmp_path / "dino")
    jobs: list[tuple[int, int]] = []

    def read(sources: list[Source]) -> dict[str, Path]:
        jobs.clear()
        return read_features(
            ledger, ONE_WORKER, config, sources, lambda done, total: jobs.append((done, total))
        )

    first = read(sources)
    assert jobs == [(1, 2), (2, 2)]
    assert {name: np.load(path).shape for name, path in first.items()} == {
        "a.npy": (COUNT, 16),
        "twin.npy": (COUNT, 16),
        "real.npy": (10, 16),
    }
    times = {path: path.stat().st_mtime_ns for path in first.values()}
    assert read(sources) == first
    assert jobs == []
    assert {path: path.stat().st_mtime_ns for path in first.values()} == times
    kinds = [artifact.kind for artifact in ledger.records()]
    assert kinds.count("features") == 2
    assert not (tmp_path / "run/evaluation/.features.tmp").exists()
