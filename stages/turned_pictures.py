"""Held-out pictures turned to noise and back by Ray workers, for the encoders' report.

A part is kept by its name until the report is committed, so that an interrupted stage goes on.
"""

import functools
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from infra.launch import run_jobs
from infra.profile import Profile
from infra.ray_cluster import cluster
from pipeline.config import Recipe
from pipeline.durable import replace_durably
from pipeline.ledger import Artifact, Ledger
from stages.sample_sets import Progress, Subject, write_array

if TYPE_CHECKING:
    from pipeline.evaluation.translating import Turned

CHUNK = 64  # most pictures of a job; jobs are cut by this alone, never by the number of workers

_SCRATCH = Path("evaluation") / ".turned.tmp"
_LOADED = 2


class Way(NamedTuple):
    """There by one network and back by another, or the same.

    Attributes:
        who: in words.
        encoder: from pictures to noise.
        decoder: from noise to pictures.
        steps: each way.
    """

    who: str
    encoder: Artifact
    decoder: Artifact
    steps: int


def turn(
    ledger: Ledger,
    recipe: Recipe,
    profile: Profile,
    ways: Sequence[Way],
    subject: Subject,
    key: str,
    progress: Progress,
) -> "list[Turned]":
    """What every way makes of the pictures, in order of ways.

    Args:
        ledger: of the run.
        recipe: says how many pictures, and at which guidance weights.
        profile: where to run.
        ways: who is compared.
        subject: the pictures, and the parts around networks of latents.
        key: of the report; parts of another are not taken for its own.
        progress: is told (parts done, parts in all).

    Raises:
        BundleError: a network was not made for this.
    """
    weights = _weights_of(recipe)
    spec = {
        "run_dir": str(ledger.run_dir.resolve()),
        "data": subject.data.path,
        "components": subject.components.path if subject.components else None,
        "num_pictures": recipe.evaluation.num_samples,
        "weights": weights,
        "seed": recipe.evaluation.seed,
    }
    jobs: list[dict[str, Any]] = [
        {
            "way": number,
            "encoder": way.encoder.path,
            "decoder": way.decoder.path,
            "steps": way.steps,
            "first": first,
            "part": str(_SCRATCH / f"{key[:32]}-{number:02d}-{first:09d}.npy"),
        }
        for number, way in enumerate(ways)
        for first in range(0, _num_pictures(ledger, recipe, subject.data), CHUNK)
    ]
    costs: dict[int, list[int]] = {}
    with cluster(profile, ledger.run_dir / "logs"):
        results = run_jobs("stages.turned_pictures:open_translators", spec, jobs, profile)
        for done, result in enumerate(results, start=1):
            progress(done, len(jobs))
            costs[result["way"]] = result["evaluations"]
    found = []
    for number, way in enumerate(ways):
        parts = [ledger.run_dir / job["part"] for job in jobs if job["way"] == number]
        found.append(_joined(way, parts, weights, costs[number]))
    return found


def forget_parts(run_dir: Path) -> None:
    """Delete what was kept for a report that is committed now."""
    shutil.rmtree(run_dir / _SCRATCH, ignore_errors=True)


def _weights_of(recipe: Recipe) -> list[float]:
    """The guidance weights of the way back, each once."""
    return list(dict.fromkeys(recipe.evaluation.w))


def _num_pictures(ledger: Ledger, recipe: Recipe, data: Artifact) -> int:
    """As many as an evaluation has samples, or all that were held out."""
    from pipeline.data.shards import SampleShards

    return min(recipe.evaluation.num_samples, len(SampleShards(ledger.locate(data), "heldout")))


def open_translators(spec: dict[str, Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Runs once in every worker: serve jobs, each some pictures of one way.

    A part is float32 `[1 + 2 W, n, h, w, c]`: the pictures drawn again as they were, then for each
    of W guidance weights what became of them, then what is drawn from other noise.
    """
    from pipeline.evaluation.sampling import BundleSampler
    from pipeline.evaluation.translating import sources_of
    from pipeline.evaluation.translation import Translator

    run_dir, weights = Path(spec["run_dir"]), spec["weights"]
    components = run_dir / spec["components"] if spec["components"] else None
    sources = sources_of(run_dir / spec["data"], spec["num_pictures"])

    @functools.lru_cache(maxsize=_LOADED)
    def opened(bundle: str) -> BundleSampler:
        return BundleSampler(run_dir / bundle, components=components)

    def serve(job: dict[str, Any]) -> dict[str, Any]:
        translator = Translator(opened(job["encoder"]), opened(job["decoder"]), job["steps"])
        part = run_dir / job["part"]
        if not part.is_file():
            shown = sources.rows(job["first"], CHUNK)
            made = np.stack(translator.turn(shown, weights, spec["seed"], job["first"]))
            # kept by its name alone, so its bytes must be on the disk before it
            replace_durably(part, lambda temporary: write_array(temporary, made))
        costs = [translator.evaluations(w) for w in weights]
        return {"way": job["way"], "evaluations": costs}

    return serve


def _joined(
    way: Way, parts: Sequence[Path], weights: Sequence[float], costs: Sequence[int]
) -> "Turned":
    from pipeline.evaluation.translating import Turned

    made = np.concatenate([np.load(part, allow_pickle=False) for part in parts], axis=1)
    count = len(weights)
    return Turned(
        who=way.who,
        steps=way.steps,
        evaluations=dict(zip(weights, costs, strict=True)),
        back=made[0],
        made=dict(zip(weights, made[1 : 1 + count], strict=True)),
        anew=dict(zip(weights, made[1 + count :], strict=True)),
    )
