"""How a teacher is to draw the data, where there are prompts and no images: said, not yet done."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from infra.launch import run_jobs
from infra.ray.cluster import cluster
from pipeline.config import PromptsData, Recipe
from pipeline.config.profile import Profile
from pipeline.data.latents import NULL, LatentsInfo, write_latents_info
from pipeline.data.shards.dataset_info import read_info
from pipeline.data.shards.reader import SampleShards
from pipeline.data.shards.tar_index import index_path
from pipeline.failpoints import failpoint
from pipeline.ledger import FORMAT_VERSION, Artifact, Ledger, fingerprint
from stages.teacher.adopt import network_identity, pipeline_manifest


def drawing(recipe: Recipe) -> dict[str, Any] | None:
    """How the recipe's teacher is to draw its data, as JSON; None if the data have images.

    It is what `stages.data.encode_worker.TeacherSamples` opens.

    Raises:
        BundleError: `teacher.pipeline` names no pipeline that can be used.
    """
    if not isinstance(recipe.data, PromptsData):
        return None
    return {
        "directory": str(Path(str(recipe.teacher.pipeline)).resolve()),
        "manifest": pipeline_manifest(recipe).model_dump(mode="json"),
        "steps": recipe.data.steps,
        "w": recipe.data.w,
        "seed": recipe.run.seed,
    }


def drawing_identity(recipe: Recipe) -> dict[str, Any] | None:
    """All that determines what is drawn but the prompts; None if the data have images.

    Raises:
        BundleError: `teacher.pipeline` names no pipeline that can be used.
    """
    if not isinstance(recipe.data, PromptsData):
        return None
    return {
        "network": network_identity(recipe),
        "steps": recipe.data.steps,
        "w": recipe.data.w,
        "seed": recipe.run.seed,
    }


CAPTIONS_A_SHARD = 1024

_SCRATCH = ".latents.tmp"

Progress = Callable[[int, int], None]

Jobs = Sequence[dict[str, Any]]

Serve = Callable[[dict[str, Any], Jobs], Iterator[dict[str, Any]]]


def encode_key(recipe: Recipe, data: Artifact, components: Artifact) -> str:
    """Fingerprint of encoded data: the bytes of the data, and of the parts that encode it.

    Of captions without images, also the teacher that draws for them, and how.

    Raises:
        BundleError: a teacher is to draw, and its pipeline cannot be used.
    """
    content = {
        "stage": "encode",
        "format": FORMAT_VERSION,
        "captions_a_shard": CAPTIONS_A_SHARD,
        "data": data.digest,
        "components": components.digest,
    }
    drawn = drawing_identity(recipe)
    return fingerprint(content if drawn is None else content | {"drawn": drawn})


def encode(
    run_dir: Path,
    recipe: Recipe,
    profile: Profile,
    *,
    data: Artifact,
    components: Artifact,
    progress: Progress,
) -> Artifact:
    """The latents and embedded captions of the data, committed at `latents/`, or found there.

    The details of the artifact are the number of samples of each split, of conditions, and the
    shape of a latent.

    Args:
        run_dir: the run directory, seen by every worker.
        recipe: says what the teacher is to draw, if the data have no images.
        profile: where to run it.
        data: the sharded images, with captions or classes.
        components: the stock pipeline without its network.
        progress: told (parts done, parts in all).

    Raises:
        BundleError: a teacher is to draw, and its pipeline cannot be used.
        DataError: the data are damaged.
        DivergenceError: a latent or an embedding is not finite.
        InfraError: a worker failed too often.
    """

    def serve(spec: dict[str, Any], jobs: Jobs) -> Iterator[dict[str, Any]]:
        with cluster(profile, run_dir / "logs"):
            yield from run_jobs("stages.data.encode_worker:open_worker", spec, jobs, profile)

    return encode_with(run_dir, recipe, serve, data=data, components=components, progress=progress)


def encode_with(
    run_dir: Path,
    recipe: Recipe,
    serve: Serve,
    *,
    data: Artifact,
    components: Artifact,
    progress: Progress,
) -> Artifact:
    """`encode`, with workers of the caller's.

    Args:
        run_dir: the run directory.
        recipe: says what the teacher is to draw, if the data have no images.
        serve: runs jobs on workers, given the arguments of
            `stages.data.encode_worker.open_worker` and the jobs;
            yields its answers in any order.
        data: the sharded images, with captions or classes.
        components: the stock pipeline without its network.
        progress: told (parts done, parts in all).
    """
    ledger = Ledger(run_dir)
    key = encode_key(recipe, data, components)
    found = ledger.find(key)
    if found is not None:
        return found
    work = _plan(ledger.locate(data))
    scratch = _open_scratch(run_dir, key)
    spec = {
        "data": str(ledger.locate(data).resolve()),
        "components": str(ledger.locate(components).resolve()),
        "pipeline": components.details["pipeline"],
        "scratch": str(scratch.resolve()),
        "drawing": drawing(recipe),
    }
    progress(0, len(work.jobs))
    shape: list[int] = []
    for done, result in enumerate(serve(spec, work.jobs), start=1):
        shape = result["latent_shape"] or shape
        progress(done, len(work.jobs))
    info = work.content(components.details["pipeline"], shape)

    def write(folder: Path) -> dict[str, Any]:
        return _collect(folder, scratch, info)

    parents = (data.fingerprint, components.fingerprint)
    artifact = ledger.publish("latents", key, "latents", write, parents)
    shutil.rmtree(run_dir / _SCRATCH, ignore_errors=True)
    return artifact


@dataclass(frozen=True)
class _Work:
    """What is to be computed.

    Attributes:
        data: where the samples are.
        num_classes: of data without captions, else 0.
        num_conditions: distinct captions and the null, or 0.
        jobs: one for each shard of conditions, then one for each shard of samples.
    """

    data: Path
    num_classes: int
    num_conditions: int
    jobs: list[dict[str, Any]]

    def content(self, pipeline: str, latent_shape: list[int]) -> LatentsInfo:
        channels, height, width = latent_shape
        return LatentsInfo(
            pipeline=pipeline,
            latent_shape=(channels, height, width),
            num_classes=self.num_classes,
            num_conditions=self.num_conditions,
            conditions=tuple(job["part"] for job in self.jobs if job["kind"] == "captions"),
            splits=read_info(self.data).splits,
        )


def _plan(data: Path) -> _Work:
    info = read_info(data)
    if not info.captioned:
        jobs = [
            {"kind": "images", "part": shard.name, "split": split, "first": shard.first}
            | {"count": shard.count, "rows": None}
            for split, content in info.splits.items()
            for shard in content.shards
        ]
        return _Work(data, info.num_classes, 0, jobs)
    # in a table of captions, None is the null condition
    rows: dict[str, int] = {}  # of the conditions, by caption; row 0 is the null
    images = list(_sample_jobs(data, rows))
    table = [None, *rows]
    said = [
        {
            "kind": "captions",
            "part": f"conditions/shard-{first // CAPTIONS_A_SHARD:05d}.tar",
            "captions": table[first : first + CAPTIONS_A_SHARD],
        }
        for first in range(0, len(table), CAPTIONS_A_SHARD)
    ]
    return _Work(data, 0, len(table), [*said, *images])


def _sample_jobs(data: Path, rows: dict[str, int]) -> Iterator[dict[str, Any]]:
    """A job for every shard of samples; new captions take the next row."""
    info = read_info(data)
    for split, content in info.splits.items():
        samples = SampleShards(data, split)
        for shard in content.shards:
            captions = samples.captions(np.arange(shard.first, shard.first + shard.count))
            yield {
                "kind": "images" if info.encoding else "prompts",
                "part": shard.name,
                "split": split,
                "first": shard.first,
                "count": shard.count,
                "rows": [rows.setdefault(caption.text, len(rows) + 1) for caption in captions],
            }


def _open_scratch(run_dir: Path, key: str) -> Path:
    """Where parts of this key lie until all are there; those of any other are removed."""
    scratch = run_dir / _SCRATCH / key[:32]
    if not scratch.is_dir():
        shutil.rmtree(run_dir / _SCRATCH, ignore_errors=True)
        scratch.mkdir(parents=True)
    return scratch


def _collect(folder: Path, scratch: Path, info: LatentsInfo) -> dict[str, Any]:
    shards = [shard.name for split in info.splits.values() for shard in split.shards]
    tars = [Path(name) for name in (*info.conditions, *shards)]
    nulls = [Path(NULL)] if info.num_conditions else []
    for name in (*nulls, *tars, *map(index_path, tars)):
        (folder / name).parent.mkdir(exist_ok=True)
        (scratch / name).rename(folder / name)
        failpoint("encode.moved")
    write_latents_info(folder, info)
    counts = {split: content.count for split, content in info.splits.items()}
    return {
        **counts,
        "num_conditions": info.num_conditions,
        "latent_shape": list(info.latent_shape),
        "pipeline": info.pipeline,
    }
