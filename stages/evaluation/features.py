"""Who reads images: the data set's own classifier, and the extractors of a recipe.

A driver knows a reader by its identity and opens none; workers open it from JSON.
"""

import contextlib
import functools
import logging
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from infra.launch import run_jobs
from infra.ray.cluster import cluster
from pipeline.config import ExtractorConfig
from pipeline.config.profile import Profile
from pipeline.durable import replace_durably
from pipeline.errors import ConfigError
from pipeline.evaluation.features.extractor_weights import find_weights
from pipeline.ledger import Artifact, Ledger, fingerprint
from stages.evaluation.sample_sets import CHUNK, Progress, write_array

if TYPE_CHECKING:
    from pipeline.evaluation.features.classifier import Classifier
    from pipeline.sampling.sampler import Images

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
    from pipeline.evaluation.features.classifier import CHUNK as AT_ONCE
    from pipeline.evaluation.features.classifier import READER, identity_of, read_card

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
        from pipeline.evaluation.features.classifier import Classifier

        return _ClassifierReader(Classifier(run_dir / how["classifier"]))
    from pipeline.evaluation.features.extractors import open_extractor

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


FORMAT = 1

HELDOUT, PROMPTS, TRAINING, MEANS = "heldout", "prompts", "training", "means"

MEAN = "mean"

_SCRATCH = Path("evaluation") / ".features.tmp"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """Something to read: a file of samples, or what a data set has of its own.

    Attributes:
        name: of the file of features.
        artifact: what it is read from.
        count: how many there are.
        what: nothing for samples, `mean` for one image that is the mean of them; of a data set the
            held-out images (`heldout`), what samples are asked for (`prompts`), the training images
            that are measured as if they were samples (`training`), or the mean image of the class
            of each sample (`means`).
        asked: how many samples the last three are for. What is read of `training` for more of them
            begins with what is read for fewer, so that its count says which it is.
    """

    name: str
    artifact: Artifact
    count: int
    what: str = ""
    asked: int = 0


def read_features(
    ledger: Ledger,
    profile: Profile,
    reader: Reader,
    sources: Sequence[Source],
    progress: Progress,
) -> dict[str, Path]:
    """What a reader sees in every source, `[n, d]` in npy files, by the source's name.

    Artifacts of kind `features` in `evaluation/features/`; workers read those that are not there
    yet. So few that no worker would have started in that time are read here, in the same parts. An
    interrupted reading goes on with what is missing. `progress` is told (parts done, parts in all).

    Raises:
        ConfigError: an extractor's weights are other ones on a worker's machine.
    """
    keys = {source.name: _key(reader, source) for source in sources}
    by_key = {keys[source.name]: source for source in sources}  # equal content is read once
    owners = {_place(reader, source): keys[source.name] for source in sources}
    done = {key: found for key in by_key if (found := _find(ledger, key, owners))}
    missing = {key: source for key, source in by_key.items() if key not in done}
    _log.info("%s: %d sets read before, %d to read", reader.name, len(done), len(missing))
    if missing:
        spec = {"run_dir": str(ledger.run_dir.resolve()), "reader": reader.how}
        is_quick = sum(source.count for source in missing.values()) <= reader.few
        with contextlib.nullcontext() if is_quick else cluster(profile, ledger.run_dir / "logs"):
            jobs = _jobs(missing, reader.chunk)
            results = (
                map(open_reader(spec), jobs)
                if is_quick
                else run_jobs("stages.evaluation.features:open_reader", spec, jobs, profile)
            )
            for key, parts in _complete(results, jobs, progress):
                done[key] = _commit(ledger, key, reader, missing[key], parts)
        shutil.rmtree(ledger.run_dir / _SCRATCH, ignore_errors=True)
    return {name: ledger.locate(done[key]) for name, key in keys.items()}


def _find(ledger: Ledger, key: str, owners: dict[str, str]) -> Artifact | None:
    """What was read before, unless it lies where other content of this reading belongs.

    It came there when that source had the same content, and is to be overwritten.
    """
    found = ledger.find(key)
    return found if found and owners.get(found.path, key) == key else None


def _place(reader: Reader, source: Source) -> str:
    return f"evaluation/features/{reader.folder}/{source.count}-{source.name}"


def _jobs(missing: dict[str, Source], chunk: int) -> list[dict[str, Any]]:
    return [
        {
            "key": key,
            "place": source.artifact.path,
            "what": source.what,
            "asked": source.asked,
            "first": first,
            "count": min(chunk, source.count - first),
            "part": str(_SCRATCH / f"{key[:32]}-{first:09d}.npy"),
        }
        for key, source in missing.items()
        for first in range(0, source.count, chunk)
    ]


def _complete(
    results: Iterator[dict[str, Any]], jobs: Sequence[dict[str, Any]], progress: Progress
) -> Iterator[tuple[str, list[str]]]:
    """Each key with its parts, by path in order of rows, when its last part is there."""
    left: dict[str, set[str]] = {}
    for job in jobs:
        left.setdefault(job["key"], set()).add(job["part"])
    parts = {key: sorted(found) for key, found in left.items()}
    for done, result in enumerate(results, start=1):
        progress(done, len(jobs))
        key = result["key"]
        left[key].discard(result["part"])
        if not left[key]:
            yield key, parts[key]


def open_reader(spec: dict[str, Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Runs once in every worker: serve jobs, each some rows of one source."""
    run_dir = Path(spec["run_dir"])
    reader = opened(run_dir, spec["reader"])
    images, prompts = _openers()

    def serve(job: dict[str, Any]) -> dict[str, Any]:
        part = run_dir / job["part"]
        if not part.is_file():
            rows = slice(job["first"], job["first"] + job["count"])
            place = run_dir / job["place"]
            if job["what"] == PROMPTS:
                found = reader.read_prompts(prompts(place, job["asked"])[rows])
            else:
                found = reader.read(images(place, job["what"], job["asked"], rows))
            replace_durably(part, lambda temporary: write_array(temporary, found))
        return {"key": job["key"], "part": job["part"]}

    return serve


def _openers() -> tuple[
    Callable[[Path, str, int, slice], np.ndarray], Callable[[Path, int], Sequence[str]]
]:
    """What gives images and what gives prompts; both remember what the next job needs again."""
    from pipeline.evaluation.dataset_images import (
        class_means,
        images_at,
        labels_of,
        real_images,
        rows_like,
    )
    from pipeline.sampling.conditions import asked_of

    questions = functools.lru_cache(maxsize=1)(asked_of)

    @functools.lru_cache(maxsize=1)
    def means_of(place: Path) -> np.ndarray:
        return class_means(*real_images(place, "train"))

    @functools.lru_cache(maxsize=1)
    def like(place: Path, asked: int) -> np.ndarray:
        return rows_like(questions(place, asked).labels, labels_of(place, "train"))

    def images(place: Path, what: str, asked: int, rows: slice) -> np.ndarray:
        if what == HELDOUT:
            return images_at(place, "heldout", np.arange(rows.start, rows.stop))
        if what == TRAINING:
            return images_at(place, "train", like(place, asked)[rows])
        if what == MEANS:
            found: np.ndarray = means_of(place)[questions(place, asked).labels[rows]]
            return found
        samples = np.load(place, mmap_mode="r", allow_pickle=False)
        return samples.mean(0, keepdims=True) if what == MEAN else np.array(samples[rows])

    return images, lambda place, asked: questions(place, asked).prompts or ()


def _key(reader: Reader, source: Source) -> str:
    content = {"content": source.artifact.digest, "what": source.what, "count": source.count}
    how = {"stage": "features", "format": FORMAT, "weights": reader.identity}
    return fingerprint(content | how | {"chunk": reader.chunk})


def _commit(
    ledger: Ledger, key: str, reader: Reader, source: Source, parts: Sequence[str]
) -> Artifact:
    def write(path: Path) -> dict[str, Any]:
        features = np.concatenate([np.load(ledger.run_dir / part) for part in parts])
        write_array(path, features)
        return {"count": len(features), "weights_sha256": reader.sha256}

    parents = (source.artifact.fingerprint, *reader.parents)
    return ledger.publish("features", key, _place(reader, source), write, parents)
