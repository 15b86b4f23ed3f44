"""Stage `encode`: latents and text embeddings of the data set, computed by Ray workers.

If the data are prompts without images, the teacher samples them; this module specifies how, and
`stages.data.encode_worker` does it.
"""

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from infra.launch import run_jobs
from infra.ray.cluster import cluster
from pipeline.config import PromptsData, Recipe
from pipeline.data.latents import NULL, LatentsInfo, write_latents_info
from pipeline.data.shards.dataset_info import read_info
from pipeline.data.shards.reader import SampleShards
from pipeline.data.shards.tar_index import index_path
from pipeline.failpoints import failpoint
from pipeline.ledger import FORMAT_VERSION, Artifact, fingerprint
from pipeline.run_dir import layout
from stages.teacher.adopt import network_identity, pipeline_manifest
from stages.workspace import UNOBSERVED, Observer, StageResult, Workspace, find_or_make

CAPTIONS_PER_SHARD = 1024
_SCRATCH = ".latents.tmp"

_log = logging.getLogger(__name__)

Jobs = Sequence[dict[str, Any]]
RunJobs = Callable[[dict[str, Any], Jobs], Iterator[dict[str, Any]]]


def encode(
    work: Workspace,
    *,
    data: Artifact,
    components: Artifact,
    observer: Observer = UNOBSERVED,
    run: RunJobs | None = None,
) -> StageResult[Artifact]:
    """Encode the data to latents and text embeddings, committed at `latents/`, or reuse them.

    The details of the artifact are the number of samples in each split, the number of conditions,
    the shape of a latent, and a sentence on captions that the text encoder cuts.

    Args:
        work: the run; its recipe has the teacher's sampling settings for data without images.
        data: the sharded images, with captions or classes.
        components: the stock pipeline without its network.
        observer: receives the progress.
        run: runs jobs, given the spec of `stages.data.encode_worker.open_worker` and the jobs;
            yields results in any order. Default: the workers of the profile.

    Raises:
        BundleError: the teacher samples the data, and its pipeline is not usable.
        DataError: the data are damaged.
        DivergenceError: a latent or an embedding is not finite.
        InfraError: a worker failed too often.
    """
    key = encode_key(work.recipe, data, components)

    def make() -> Artifact:
        return _encode(work, key, data, components, observer, run or _on_workers(work))

    return find_or_make(work.ledger, key, observer, make)


def encode_key(recipe: Recipe, data: Artifact, components: Artifact) -> str:
    """Return the fingerprint of the encoded data: the bytes of the data and of the components.

    For prompts without images it includes the teacher and its sampling settings, and for an
    inpainting teacher the number of masks.

    Raises:
        BundleError: the teacher samples the data, and its pipeline is not usable.
    """
    content: dict[str, Any] = {
        "stage": "encode",
        "format": FORMAT_VERSION,
        "captions_a_shard": CAPTIONS_PER_SHARD,
        "data": data.digest,
        "components": components.digest,
    }
    sampled = teacher_sampling_identity(recipe)
    if sampled is not None:
        content["drawn"] = sampled
    if recipe.samples_per_image > 1:
        content["masks"] = recipe.samples_per_image
    return fingerprint(content)


def teacher_sampling_spec(recipe: Recipe) -> dict[str, Any] | None:
    """Return how the teacher samples the data, as JSON; None if the data have images.

    It is the input of `stages.data.encode_worker.TeacherSampler`.

    Raises:
        BundleError: `teacher.pipeline` is not a usable pipeline.
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


def teacher_sampling_identity(recipe: Recipe) -> dict[str, Any] | None:
    """Return what determines the sampled data besides the prompts; None if the data have images.

    Raises:
        BundleError: `teacher.pipeline` is not a usable pipeline.
    """
    if not isinstance(recipe.data, PromptsData):
        return None
    return {
        "network": network_identity(recipe),
        "steps": recipe.data.steps,
        "w": recipe.data.w,
        "seed": recipe.run.seed,
    }


def _on_workers(work: Workspace) -> RunJobs:
    def run(spec: dict[str, Any], jobs: Jobs) -> Iterator[dict[str, Any]]:
        with cluster(work.profile, work.layout.logs):
            yield from run_jobs("stages.data.encode_worker:open_worker", spec, jobs, work.profile)

    return run


def _encode(
    work: Workspace,
    key: str,
    data: Artifact,
    components: Artifact,
    observer: Observer,
    run: RunJobs,
) -> Artifact:
    ledger, folder = work.ledger, work.ledger.locate(data)
    copies = {"train": work.recipe.samples_per_image}
    jobs, num_conditions = _jobs(folder, copies)
    scratch = _open_scratch(work.run_dir, key)
    spec = {
        "data": str(folder.resolve()),
        "components": str(ledger.locate(components).resolve()),
        "pipeline": components.details["pipeline"],
        "scratch": str(scratch.resolve()),
        "teacher_sampling": teacher_sampling_spec(work.recipe),
    }
    observer.progress(0, len(jobs))
    shape: list[int] = []
    for done, result in enumerate(run(spec, jobs), start=1):
        shape = result["latent_shape"] or shape
        observer.progress(done, len(jobs))
    images = read_info(folder)
    info = LatentsInfo(
        pipeline=components.details["pipeline"],
        latent_shape=tuple(shape),
        num_classes=0 if num_conditions else images.num_classes,
        num_conditions=num_conditions,
        conditions=tuple(job["part"] for job in jobs if job["kind"] == "captions"),
        splits={name: split.repeated(copies.get(name, 1)) for name, split in images.splits.items()},
    )

    def write(folder: Path) -> dict[str, Any]:
        return {**_collect(folder, scratch, info), **({"notes": notes} if notes else {})}

    notes = _notes_on_captions(ledger.locate(components), jobs)

    parents = (data.fingerprint, components.fingerprint)
    artifact = ledger.publish("latents", key, layout.LATENTS, write, parents)
    shutil.rmtree(work.run_dir / _SCRATCH, ignore_errors=True)
    for note in notes:
        _log.warning("captions: %s", note)
    return artifact


def _notes_on_captions(components: Path, jobs: Jobs) -> list[str]:
    from pipeline.models.stock.long_prompts import long_prompts_note  # imports diffusers

    captions = [text for job in jobs for text in job.get("captions", ()) if text is not None]
    note = long_prompts_note(components, captions, "caption") if captions else None
    return [note] if note else []


def _jobs(data: Path, copies: Mapping[str, int]) -> tuple[list[dict[str, Any]], int]:
    """Return a job for each shard of conditions, then of samples; and the number of conditions.

    `copies` is the number of encoded samples of an image, by split; 1 for splits that it lacks.

    Conditions are the null condition (None) and the distinct captions; without captions there are
    none, and samples have a class.
    """
    info = read_info(data)
    known: dict[str, int] = {}  # rows of the conditions, by caption; row 0 is the null condition
    samples: list[dict[str, Any]] = []
    for split, content in info.splits.items():
        captioned = SampleShards(data, split) if info.captioned else None
        for shard in content.shards:
            rows = None
            if captioned is not None:
                captions = captioned.captions(np.arange(shard.first, shard.first + shard.count))
                rows = [known.setdefault(caption.text, len(known) + 1) for caption in captions]
            samples.append(
                {
                    "kind": "images" if info.encoding else "prompts",
                    "part": shard.name,
                    "split": split,
                    "first": shard.first,
                    "count": shard.count,
                    "copies": copies.get(split, 1),
                    "rows": rows,
                }
            )
    table = [None, *known] if info.captioned else []
    conditions = [
        {
            "kind": "captions",
            "part": f"conditions/shard-{first // CAPTIONS_PER_SHARD:05d}.tar",
            "captions": table[first : first + CAPTIONS_PER_SHARD],
        }
        for first in range(0, len(table), CAPTIONS_PER_SHARD)
    ]
    return [*conditions, *samples], len(table)


def _open_scratch(run_dir: Path, key: str) -> Path:
    """Return the folder for unfinished parts of this key; parts of other keys are removed."""
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
