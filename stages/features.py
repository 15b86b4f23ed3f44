"""Features of images, read by Ray workers and kept: each set is committed by its content.

What was read once with the same weights is never read again, whatever report asks for it.
"""

import functools
import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from infra.launch import run_jobs
from infra.profile import Profile
from infra.ray_cluster import cluster
from pipeline.config import ExtractorConfig
from pipeline.durable import replace_durably
from pipeline.errors import ConfigError
from pipeline.evaluation.weights import Weights, find_weights
from pipeline.ledger import Artifact, Ledger, fingerprint
from stages.sample_sets import CHUNK, Progress, write_array

FORMAT = 1
HELDOUT, PROMPTS = "heldout", "prompts"

_SCRATCH = Path("evaluation") / ".features.tmp"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """Something to read: a file of samples, the held-out images, or the prompts.

    Attributes:
        name: of the file of features.
        artifact: what it is read from.
        count: how many there are.
        what: `heldout`, `prompts`, or nothing for samples.
    """

    name: str
    artifact: Artifact
    count: int
    what: str = ""


def read_features(
    ledger: Ledger,
    profile: Profile,
    extractor: ExtractorConfig,
    sources: Sequence[Source],
    progress: Progress,
) -> dict[str, Path]:
    """The features of every source, float32 `[n, d]` in npy files, by its name.

    Artifacts of kind `features` in `evaluation/features/KIND-WEIGHTS/`; workers read those that are
    not there yet. `progress` is told (parts done, parts in all).

    Raises:
        ConfigError: the weights are missing, or are other ones on a worker's machine.
    """
    weights = find_weights(extractor)
    keys = {source.name: _key(weights, source) for source in sources}
    by_key = {keys[source.name]: source for source in sources}  # equal content is read once
    done = {key: found for key in by_key if (found := ledger.find(key))}
    missing = {key: source for key, source in by_key.items() if key not in done}
    _log.info("%s: %d sets read before, %d to read", weights.name, len(done), len(missing))
    if missing:
        with cluster(profile, ledger.run_dir / "logs"):
            parts = _read(ledger, profile, extractor, weights, missing, progress)
        for key, source in missing.items():
            done[key] = _commit(ledger, key, weights, source, parts[key])
        shutil.rmtree(ledger.run_dir / _SCRATCH, ignore_errors=True)
    return {name: ledger.locate(done[key]) for name, key in keys.items()}


def _read(
    ledger: Ledger,
    profile: Profile,
    extractor: ExtractorConfig,
    weights: Weights,
    missing: dict[str, Source],
    progress: Progress,
) -> dict[str, list[str]]:
    """Have workers read; the parts of every set, by path in order of rows."""
    spec = {
        "run_dir": str(ledger.run_dir.resolve()),
        "extractor": extractor.model_dump(mode="json"),
        "identity": weights.identity,
    }
    jobs = [
        {
            "key": key,
            "place": source.artifact.path,
            "what": source.what,
            "num": source.count,
            "first": first,
            "count": min(CHUNK, source.count - first),
            "part": str(_SCRATCH / f"{key[:32]}-{first:09d}.npy"),
        }
        for key, source in missing.items()
        for first in range(0, source.count, CHUNK)
    ]
    parts: dict[str, list[str]] = {key: [] for key in missing}
    results = run_jobs("stages.features:open_reader", spec, jobs, profile)
    for done, result in enumerate(results, start=1):
        progress(done, len(jobs))
        parts[result["key"]].append(result["part"])
    return {key: sorted(found) for key, found in parts.items()}


def open_reader(spec: dict[str, Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Runs once in every worker: serve jobs, each some rows of one source."""
    from pipeline.evaluation.extractors import open_extractor

    run_dir = Path(spec["run_dir"])
    weights = find_weights(ExtractorConfig.model_validate(spec["extractor"]))
    if weights.identity != spec["identity"]:
        raise ConfigError(
            f"{weights.path} holds other weights on this worker's machine than on the driver's; "
            "copy the same files to every machine"
        )
    extractor = open_extractor(weights)

    def serve(job: dict[str, Any]) -> dict[str, Any]:
        part = run_dir / job["part"]
        if not part.is_file():
            rows = slice(job["first"], job["first"] + job["count"])
            place = run_dir / job["place"]
            if job["what"] == PROMPTS:
                features = extractor.read_prompts(_prompts(place, job["num"])[rows])
            else:
                features = extractor.read(_images(place, job["what"], rows))
            replace_durably(part, lambda temporary: write_array(temporary, features))
        return {"key": job["key"], "part": job["part"]}

    return serve


def _images(place: Path, what: str, rows: slice) -> np.ndarray:
    if what != HELDOUT:
        return np.ascontiguousarray(np.load(place, mmap_mode="r", allow_pickle=False)[rows])
    from pipeline.data.shards import SampleShards

    x = SampleShards(place, HELDOUT).read(np.arange(rows.start, rows.stop)).x
    found: np.ndarray = x.permute(0, 2, 3, 1).contiguous().numpy()
    return found


@functools.lru_cache(maxsize=2)
def _prompts(place: Path, num: int) -> tuple[str, ...]:
    from pipeline.evaluation.asking import asked_of

    return asked_of(place, num).prompts or ()


def _key(weights: Weights, source: Source) -> str:
    content = {"content": source.artifact.digest, "what": source.what, "count": source.count}
    how = {"stage": "features", "format": FORMAT, "weights": weights.identity, "chunk": CHUNK}
    return fingerprint(content | how)


def _commit(
    ledger: Ledger, key: str, weights: Weights, source: Source, parts: Sequence[str]
) -> Artifact:
    def write(path: Path) -> dict[str, Any]:
        features = np.concatenate([np.load(ledger.run_dir / part) for part in parts])
        write_array(path, features)
        return {"count": len(features), "weights_sha256": weights.sha256}

    place = f"evaluation/features/{weights.folder}/{source.count}-{source.name}"
    return ledger.publish("features", key, place, write, (source.artifact.fingerprint,))
