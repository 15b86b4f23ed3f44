"""Sets of samples, drawn by Ray workers and kept: each is committed by itself.

An interrupted evaluation draws only what is missing, and the teacher is sampled once in the life of
a chain.
"""

import functools
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from infra.launch import run_jobs
from infra.ray.cluster import cluster
from pipeline.config import Recipe
from pipeline.config.profile import Profile
from pipeline.durable import replace_durably
from pipeline.evaluation.documents import Cell
from pipeline.failpoints import failpoint
from pipeline.ledger import Artifact, Ledger, fingerprint

FORMAT = 1
CHUNK = 256  # most rows of a job; jobs are cut by this alone, never by the number of workers

_CPU_BATCH = 64  # a fifth faster than 256 for 8x8 images on one thread: it stays in the cache
_LOADED_BUNDLES = 4
_SCRATCH = Path("evaluation") / ".parts.tmp"

_log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Subject:
    """What samples are drawn of: the data set, and the parts around networks of latents."""

    data: Artifact
    components: Artifact | None

    @property
    def digests(self) -> dict[str, str]:
        """Of all of it, for the fingerprint of what is made of it."""
        parts = {"components": self.components.digest} if self.components else {}
        return {"data": self.data.digest, **parts}


def draw_sets(
    ledger: Ledger,
    recipe: Recipe,
    profile: Profile,
    cells: Sequence[Cell],
    bundles: Sequence[Artifact],
    subject: Subject,
    progress: Progress,
) -> list[tuple[Cell, Artifact]]:
    """The samples of every cell, in order; workers draw those that are not committed yet.

    The teacher's reference samples are artifacts of kind `reference`, all others of kind
    `samples`: arrays float32 `[n, h, w, c]` in `evaluation/N-samples/*.npy`. `progress` is told
    (parts done, parts in all).
    """
    num = recipe.evaluation.num_samples
    keys = {_samples_key(cell, num, subject): cell for cell in cells}
    done = {key: found for key in keys if (found := ledger.find(key))}
    missing = {key: cell for key, cell in keys.items() if key not in done}
    _log.info("samples: %d sets are kept from before, %d to draw", len(done), len(missing))
    if missing:
        parents = {bundle.digest: bundle.fingerprint for bundle in bundles}
        with cluster(profile, ledger.run_dir / "logs"):
            spec = {
                "run_dir": str(ledger.run_dir.resolve()),
                "num_samples": num,
                "data": subject.data.path,
                "components": subject.components.path if subject.components else None,
            }
            for key, drawn in _drawn(spec, profile, missing, progress):
                cell = missing[key]
                done[key] = _commit(ledger, key, cell, drawn, parents[cell.digest])
        shutil.rmtree(ledger.run_dir / _SCRATCH, ignore_errors=True)
    return [(cell, done[key]) for key, cell in keys.items()]


@dataclass(frozen=True)
class _Drawn:
    """A complete set of samples in parts, by path in order of rows, and what one sample cost."""

    parts: tuple[str, ...]
    count: int
    evaluations: int


def _drawn(
    spec: dict[str, Any], profile: Profile, missing: dict[str, Cell], progress: Progress
) -> Iterator[tuple[str, _Drawn]]:
    """Have workers draw; yields each set when its last part is there."""
    num = spec["num_samples"]
    jobs = _jobs(missing, num)
    parts: dict[str, list[str]] = {key: [] for key in missing}
    results = run_jobs("stages.evaluation.sample_sets:open_sampler", spec, jobs, profile)
    for done, result in enumerate(results, start=1):
        progress(done, len(jobs))
        found = parts[result["key"]]
        found.append(result["part"])
        if len(found) == len(_ranges(num)):
            yield result["key"], _Drawn(tuple(sorted(found)), num, result["evaluations"])


def open_sampler(spec: dict[str, Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Runs once in every worker: serve jobs, each some rows of one set of samples.

    Heavy imports are here, so that the driver does not pay for them. A bundle stays loaded while
    jobs ask for it.
    """
    from pipeline.sampling.conditions import asked_of, asked_pictures
    from pipeline.sampling.sampler import BundleSampler

    run_dir = Path(spec["run_dir"])
    components = run_dir / spec["components"] if spec["components"] else None
    data = run_dir / spec["data"]
    questions = asked_of(data, spec["num_samples"])
    asked = questions.by_network

    @functools.lru_cache(maxsize=_LOADED_BUNDLES)
    def opened(bundle: Path) -> BundleSampler:
        return BundleSampler(bundle, components=components)

    def serve(job: dict[str, Any]) -> dict[str, Any]:
        cell = Cell.model_validate(job["cell"])
        sampler = opened(run_dir / cell.bundle)
        part = run_dir / job["part"]
        if not part.is_file():
            first, count = job["first"], job["count"]
            hides = sampler.paints_into_pictures
            pictures = asked_pictures(data, questions, first, count) if hides else None
            images = sampler.sample(
                steps=cell.steps,
                w=cell.w,
                asked=asked[first : first + count],
                seed=cell.seed,
                sampler=cell.sampler,
                batch_size=CHUNK if sampler.device.type == "cuda" else _CPU_BATCH,
                first=first,
                pictures=pictures,
            )
            # kept by its name alone, so its bytes must be on the disk before it
            replace_durably(part, lambda temporary: write_array(temporary, images))
            failpoint("samples.part")
        evaluations = sampler.evaluations(steps=cell.steps, w=cell.w)
        return {"key": job["key"], "part": job["part"], "evaluations": evaluations}

    return serve


def _samples_key(cell: Cell, num: int, subject: Subject) -> str:
    how = cell.model_dump(mode="json", include={"digest", "sampler", "steps", "w", "seed"})
    if subject.components is not None:  # then prompts come from the data, pixels from the parts
        how |= {"data": subject.data.digest, "components": subject.components.digest}
    return fingerprint({"stage": "samples", "format": FORMAT, "num": num, "chunk": CHUNK, **how})


def _jobs(cells: dict[str, Cell], num: int) -> list[dict[str, Any]]:
    """Jobs of nearly equal size, those of many steps first: none is left to the end alone."""
    longest_first = sorted(cells.items(), key=lambda item: -item[1].steps)
    return [
        {
            "key": key,
            "cell": cell.model_dump(mode="json"),
            "first": first,
            "count": count,
            "part": str(_SCRATCH / f"{key[:32]}-{first:09d}.npy"),
        }
        for key, cell in longest_first
        for first, count in _ranges(num)
    ]


def samples_place(num: int, cell: Cell) -> str:
    """Where a cell's samples lie in a run directory."""
    return f"evaluation/{num}-samples/{cell.file}"


def _ranges(num: int) -> list[tuple[int, int]]:
    size = -(-num // -(-num // CHUNK))
    return [(first, min(size, num - first)) for first in range(0, num, size)]


def _commit(ledger: Ledger, key: str, cell: Cell, drawn: _Drawn, parent: str) -> Artifact:
    def write(path: Path) -> dict[str, Any]:
        images = np.concatenate([np.load(ledger.run_dir / part) for part in drawn.parts])
        write_array(path, images)
        return {"evaluations": drawn.evaluations, "count": len(images)}

    kind = "reference" if cell.role in ("yardstick", "teacher") else "samples"
    return ledger.publish(kind, key, samples_place(drawn.count, cell), write, (parent,))


def write_array(path: Path, images: np.ndarray) -> None:
    """An npy file, data only."""
    with path.open("wb") as file:
        np.save(file, images, allow_pickle=False)
