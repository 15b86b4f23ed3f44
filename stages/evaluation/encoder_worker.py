"""Round trips and edits of held-out images by Ray workers, for the encoders' report.

A round trip encodes images to noise and decodes them; an edit noises them part of the way and
samples from there. Finished parts are kept until the report is committed, so that an interrupted
stage resumes.
"""

import functools
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from infra.launch import run_jobs
from infra.ray.cluster import cluster
from pipeline.config import Recipe
from pipeline.ledger import Artifact, Ledger
from pipeline.run_dir import layout
from stages.evaluation.sample_sets import SampleInputs, complete_sets, write_part
from stages.workspace import Progress, Workspace

if TYPE_CHECKING:
    from pipeline.evaluation.reports.encoder_report import RoundTrip

CHUNK = 64  # most images per job, whatever the number of workers

_SCRATCH = Path(layout.EVALUATION) / ".turned.tmp"
_LOADED = 2


class RoundTripSpec(NamedTuple):
    """Encoding to noise by one network, and decoding by another or the same.

    Attributes:
        label: description in the report.
        encoder: bundle that encodes images to noise.
        decoder: bundle that decodes noise to images.
        steps: steps in each direction.
    """

    label: str
    encoder: Artifact
    decoder: Artifact
    steps: int


class EditSpec(NamedTuple):
    """Edits by one network: noise part of the way, then sample from there.

    Attributes:
        label: description in the report.
        network: bundle that samples.
        steps: N of its grid.
        taken: steps that each edit takes, ascending.
    """

    label: str
    network: Artifact
    steps: int
    taken: tuple[int, ...]


def round_trips(
    work: Workspace,
    ways: Sequence[RoundTripSpec | EditSpec],
    sample_inputs: SampleInputs,
    key: str,
    progress: Progress,
) -> "list[RoundTrip]":
    """Run every round trip and edit on the held-out images, on Ray workers.

    Args:
        work: the run; its recipe has the number of images and the guidance weights.
        ways: round trips and edits to run.
        sample_inputs: the data set, and the components of latent-space networks.
        key: fingerprint of the report; parts of another report are not reused.
        progress: called with (parts done, parts in all).

    Returns:
        The round trips in order of `ways`, then the edits by start time.

    Raises:
        BundleError: a network does not support its round trip or edit.
    """
    ledger, recipe = work.ledger, work.recipe
    weights = _unique_weights(recipe)
    spec = {
        "run_dir": str(ledger.run_dir.resolve()),
        "data": sample_inputs.data.path,
        "components": sample_inputs.components.path if sample_inputs.components else None,
        "num_pictures": recipe.evaluation.num_samples,
        "weights": weights,
        "seed": recipe.evaluation.seed,
    }
    jobs: list[dict[str, Any]] = [
        {
            "key": str(number),
            **_job_fields(way),
            "first": first,
            "part": str(_SCRATCH / f"{key[:32]}-{number:02d}-{first:09d}.npy"),
        }
        for number, way in enumerate(ways)
        for first in range(0, _num_pictures(ledger, recipe, sample_inputs.data), CHUNK)
    ]
    with cluster(work.profile, work.layout.logs):
        results = run_jobs("stages.evaluation.encoder_worker:open_worker", spec, jobs, work.profile)
        complete = complete_sets(results, jobs, progress)
        sets = {key: (parts, result) for key, parts, result in complete}
    found: list[RoundTrip] = []
    for number, way in enumerate(ways):
        parts, result = sets[str(number)]
        paths = [ledger.run_dir / part for part in parts]
        found += _collect(way, paths, weights, result["evaluations"])
    return sorted(found, key=lambda each: each.time or 0.0)


def remove_parts(run_dir: Path) -> None:
    """Delete the parts of a committed report."""
    shutil.rmtree(run_dir / _SCRATCH, ignore_errors=True)


def _job_fields(way: RoundTripSpec | EditSpec) -> dict[str, Any]:
    """Return the job fields of a round trip or edit."""
    if isinstance(way, EditSpec):
        return {"network": way.network.path, "steps": way.steps, "taken": list(way.taken)}
    return {"encoder": way.encoder.path, "decoder": way.decoder.path, "steps": way.steps}


def _unique_weights(recipe: Recipe) -> list[float]:
    """Return the guidance weights of decoding, without duplicates."""
    return list(dict.fromkeys(recipe.evaluation.w))


def _num_pictures(ledger: Ledger, recipe: Recipe, data: Artifact) -> int:
    """Return the smaller of the evaluation's number of samples and the held-out images."""
    from pipeline.data.shards.reader import SampleShards

    return min(recipe.evaluation.num_samples, len(SampleShards(ledger.locate(data), "heldout")))


def open_worker(spec: dict[str, Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return a function that runs some images of one round trip or edit per call.

    A part is float32 `[1 + 2 W, n, h, w, c]`: reconstructions of the images, then the translated
    images at W guidance weights, then samples from independent noise. A part of K edits by one
    network is `[(K + 1) W, n, h, w, c]`: the images of each edit, then samples from the same noise
    alone.
    """
    from pipeline.evaluation.reports.encoder_report import sources_of
    from pipeline.sampling.ddim_inversion import Editor, Translator
    from pipeline.sampling.sampler import BundleSampler

    run_dir, weights = Path(spec["run_dir"]), spec["weights"]
    components = run_dir / spec["components"] if spec["components"] else None
    sources = sources_of(run_dir / spec["data"], spec["num_pictures"])

    @functools.lru_cache(maxsize=_LOADED)
    def load(bundle: str) -> BundleSampler:
        return BundleSampler(run_dir / bundle, components=components)

    def method_of(job: dict[str, Any]) -> tuple[Translator | Editor, list[list[int]]]:
        """Return the method of a job, and its evaluations by outcome and guidance weight."""
        if "taken" in job:
            editor = Editor(load(job["network"]), job["steps"], tuple(job["taken"]))
            costs = [[editor.evaluations(w, taken) for w in weights] for taken in editor.taken]
            return editor, costs
        translator = Translator(load(job["encoder"]), load(job["decoder"]), job["steps"])
        return translator, [[translator.evaluations(w) for w in weights]]

    def serve(job: dict[str, Any]) -> dict[str, Any]:
        method, costs = method_of(job)

        def turn() -> np.ndarray:
            images = sources.rows(job["first"], CHUNK)
            return np.stack(method.turn(images, weights, spec["seed"], job["first"]))

        write_part(run_dir / job["part"], turn)
        return {"key": job["key"], "evaluations": costs}

    return serve


def _collect(
    way: RoundTripSpec | EditSpec,
    parts: Sequence[Path],
    weights: Sequence[float],
    costs: Sequence[Sequence[int]],
) -> "list[RoundTrip]":
    """Concatenate the parts of one round trip, or of the edits of one network."""
    from pipeline.evaluation.reports.encoder_report import RoundTrip

    made = np.concatenate([np.load(part, allow_pickle=False) for part in parts], axis=1)
    takens: tuple[int | None, ...] = way.taken if isinstance(way, EditSpec) else (None,)
    back = None if isinstance(way, EditSpec) else made[0]
    outcomes = made[0 if back is None else 1 :].reshape(-1, len(weights), *made.shape[1:])
    *became, independent = [dict(zip(weights, images, strict=True)) for images in outcomes]
    return [
        RoundTrip(
            who=way.label,
            steps=way.steps,
            evaluations=dict(zip(weights, cost, strict=True)),
            back=back,
            made=made_of_it,
            fresh=independent,
            taken=taken,
        )
        for taken, cost, made_of_it in zip(takens, costs, became, strict=True)
    ]
