"""Sets of samples, drawn by Ray workers, each committed on its own.

An interrupted evaluation draws only what is missing, and the teacher is sampled once per run.
"""

import functools
import logging
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from infra.launch import run_jobs
from infra.ray.cluster import cluster
from pipeline.durable import replace_durably
from pipeline.evaluation.documents import SampleSpec
from pipeline.failpoints import failpoint
from pipeline.ledger import Artifact, Ledger, fingerprint
from pipeline.run_dir import layout
from stages.workspace import Progress, Workspace

FORMAT = 2  # 2: classes in the shares of the held-out images
CHUNK = 256  # most rows per job, whatever the number of workers

_CPU_BATCH = 64  # a fifth faster than 256 for 8x8 images on one thread: it stays in the cache
_LOADED_BUNDLES = 4
_SCRATCH = Path(layout.EVALUATION) / ".parts.tmp"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SampleInputs:
    """Inputs of sampling besides a bundle.

    Attributes:
        data: the data set, which provides conditions.
        components: the stock pipeline without its network; None for pixel-space networks.
    """

    data: Artifact
    components: Artifact | None

    @property
    def digests(self) -> dict[str, str]:
        """Digests of the inputs, for the fingerprints of results."""
        parts = {"components": self.components.digest} if self.components else {}
        return {"data": self.data.digest, **parts}


def sample_cells(
    work: Workspace,
    cells: Sequence[SampleSpec],
    bundles: Sequence[Artifact],
    sample_inputs: SampleInputs,
    progress: Progress,
    *,
    allow_nonfinite: bool = False,
) -> list[tuple[SampleSpec, Artifact]]:
    """Draw the samples of every cell that are not committed yet; return all of them in order.

    The teacher's reference samples are artifacts of kind `reference`, all others of kind `samples`:
    arrays float32 `[n, h, w, c]` in `evaluation/N-samples/*.npy`. `progress` is called with (parts
    done, parts in all). With `allow_nonfinite` samples with NaN or infinity are committed too.

    Raises:
        DivergenceError: a sample is not finite.
    """
    ledger, num = work.ledger, work.recipe.evaluation.num_samples
    keys = {_samples_key(cell, num, sample_inputs): cell for cell in cells}
    done = ledger.find_all(keys)
    missing = {key: cell for key, cell in keys.items() if key not in done}
    _log.info("samples: sets reused=%d, to draw=%d", len(done), len(missing))
    if missing:
        parents = {bundle.digest: bundle.fingerprint for bundle in bundles}
        with cluster(work.profile, work.layout.logs):
            spec = {
                "run_dir": str(ledger.run_dir.resolve()),
                "num_samples": num,
                "allow_nonfinite": allow_nonfinite,
                "data": sample_inputs.data.path,
                "components": sample_inputs.components.path if sample_inputs.components else None,
            }
            jobs = _jobs(missing, num)
            results = run_jobs(
                "stages.evaluation.sample_sets:open_worker", spec, jobs, work.profile
            )
            for key, parts, result in complete_sets(results, jobs, progress):
                cell = missing[key]
                details = {"evaluations": result["evaluations"], "count": num}
                done[key] = _commit(ledger, key, cell, parts, details, parents[cell.digest])
        shutil.rmtree(ledger.run_dir / _SCRATCH, ignore_errors=True)
    return [(cell, done[key]) for key, cell in keys.items()]


def load_samples(path: Path) -> np.ndarray:
    """Load a committed set of samples, `[n, h, w, c]`.

    Raises:
        DivergenceError: a sample is not finite.
    """
    from pipeline.sampling.sampler import check_finite

    samples: np.ndarray = np.load(path, allow_pickle=False)
    check_finite(samples, f"samples in {path}")
    return samples


def complete_sets(
    results: Iterator[dict[str, Any]], jobs: Sequence[dict[str, Any]], progress: Progress
) -> Iterator[tuple[str, list[str], dict[str, Any]]]:
    """Yield a set when its last part is complete: key, parts in order of rows, and last result.

    Args:
        results: results of the jobs, in any order; each has the `key` of its job.
        jobs: jobs with the `key` of their set, and the path of their `part`, which sorts by rows.
        progress: called with (parts done, parts in all).
    """
    left = Counter(job["key"] for job in jobs)
    for done, result in enumerate(results, start=1):
        progress(done, len(jobs))
        key = result["key"]
        left[key] -= 1
        if not left[key]:
            yield key, sorted(job["part"] for job in jobs if job["key"] == key), result


def write_part(part: Path, make: Callable[[], np.ndarray]) -> bool:
    """Write a part unless it exists; return whether it was written.

    A part counts as complete by its name, so its bytes are on disk before it gets that name.
    """
    if part.is_file():
        return False
    array = make()
    replace_durably(part, lambda temporary: write_array(temporary, array))
    return True


def join_parts(run_dir: Path, parts: Sequence[str], path: Path) -> int:
    """Write the rows of all parts to one file; return their number."""
    array = np.concatenate([np.load(run_dir / part, allow_pickle=False) for part in parts])
    write_array(path, array)
    return len(array)


def open_worker(spec: dict[str, Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return a function that draws some rows of one set of samples per call.

    Heavy imports are here, so that the driver does not import them. Bundles in use stay loaded.
    """
    from pipeline.sampling.conditions import choose_conditions, condition_images
    from pipeline.sampling.sampler import BundleSampler

    run_dir = Path(spec["run_dir"])
    components = run_dir / spec["components"] if spec["components"] else None
    data = run_dir / spec["data"]
    conditions = choose_conditions(data, spec["num_samples"])
    inputs = conditions.network_inputs

    @functools.lru_cache(maxsize=_LOADED_BUNDLES)
    def load(bundle: Path) -> BundleSampler:
        return BundleSampler(bundle, components=components)

    def serve(job: dict[str, Any]) -> dict[str, Any]:
        cell = SampleSpec.model_validate(job["cell"])
        sampler = load(run_dir / cell.bundle)
        first, count = job["first"], job["count"]

        def sample() -> np.ndarray:
            is_inpainting = sampler.is_inpainting
            return sampler.sample(
                steps=cell.steps,
                w=cell.w,
                conditions=inputs[first : first + count],
                seed=cell.seed,
                sampler=cell.sampler,
                batch_size=CHUNK if sampler.device.type == "cuda" else _CPU_BATCH,
                first=first,
                pictures=condition_images(data, conditions, first, count)
                if is_inpainting
                else None,
                allow_nonfinite=spec.get("allow_nonfinite", False),
            )

        if write_part(run_dir / job["part"], sample):
            failpoint("samples.part")
        evaluations = sampler.evaluations(steps=cell.steps, w=cell.w, sampler=cell.sampler)
        return {"key": job["key"], "part": job["part"], "evaluations": evaluations}

    return serve


def _samples_key(cell: SampleSpec, num: int, sample_inputs: SampleInputs) -> str:
    how = cell.model_dump(mode="json", include={"digest", "sampler", "steps", "w", "seed"})
    how |= sample_inputs.digests  # the data give the conditions
    return fingerprint({"stage": "samples", "format": FORMAT, "num": num, "chunk": CHUNK, **how})


def _jobs(cells: dict[str, SampleSpec], num: int) -> list[dict[str, Any]]:
    """Return jobs of nearly equal size, those of many steps first, to balance the workers."""
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


def samples_place(num: int, cell: SampleSpec) -> str:
    """Return the path of a cell's samples in a run directory."""
    return f"{layout.EVALUATION}/{num}-samples/{cell.file}"


def _ranges(num: int) -> list[tuple[int, int]]:
    size = -(-num // -(-num // CHUNK))
    return [(first, min(size, num - first)) for first in range(0, num, size)]


def _commit(
    ledger: Ledger,
    key: str,
    cell: SampleSpec,
    parts: Sequence[str],
    details: dict[str, Any],
    parent: str,
) -> Artifact:
    def write(path: Path) -> dict[str, Any]:
        join_parts(ledger.run_dir, parts, path)
        return details

    kind = "reference" if cell.role in ("noise_floor", "teacher") else "samples"
    return ledger.publish(kind, key, samples_place(details["count"], cell), write, (parent,))


def write_array(path: Path, images: np.ndarray) -> None:
    """Write an npy file without pickled objects."""
    with path.open("wb") as file:
        np.save(file, images, allow_pickle=False)
