"""Held-out pictures turned to noise and back, or edited, by Ray workers, for the encoders' report.

A part is kept by its name until the report is committed, so that an interrupted stage goes on.
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
from pipeline.config.profile import Profile
from pipeline.durable import replace_durably
from pipeline.ledger import Artifact, Ledger
from stages.evaluation.sample_sets import Progress, Subject, write_array

if TYPE_CHECKING:
    from pipeline.evaluation.reports.encoder_report import Turned

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


class Edit(NamedTuple):
    """Noised part of the way, and drawn on from there.

    Attributes:
        who: in words.
        network: draws.
        steps: N of its grid.
        taken: how many of them each edit takes, ascending.
    """

    who: str
    network: Artifact
    steps: int
    taken: tuple[int, ...]


def turn(
    ledger: Ledger,
    recipe: Recipe,
    profile: Profile,
    ways: Sequence[Way | Edit],
    subject: Subject,
    key: str,
    progress: Progress,
) -> "list[Turned]":
    """What every way makes of the pictures, in order of ways; then the edits, by time.

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
            **_asked(way),
            "first": first,
            "part": str(_SCRATCH / f"{key[:32]}-{number:02d}-{first:09d}.npy"),
        }
        for number, way in enumerate(ways)
        for first in range(0, _num_pictures(ledger, recipe, subject.data), CHUNK)
    ]
    costs: dict[int, list[list[int]]] = {}
    with cluster(profile, ledger.run_dir / "logs"):
        results = run_jobs("stages.evaluation.encoder_worker:open_translators", spec, jobs, profile)
        for done, result in enumerate(results, start=1):
            progress(done, len(jobs))
            costs[result["way"]] = result["evaluations"]
    found: list[Turned] = []
    for number, way in enumerate(ways):
        parts = [ledger.run_dir / job["part"] for job in jobs if job["way"] == number]
        found += _joined(way, parts, weights, costs[number])
    return sorted(found, key=lambda each: each.time or 0.0)


def forget_parts(run_dir: Path) -> None:
    """Delete what was kept for a report that is committed now."""
    shutil.rmtree(run_dir / _SCRATCH, ignore_errors=True)


def _asked(way: Way | Edit) -> dict[str, Any]:
    """What a job says of its way."""
    if isinstance(way, Edit):
        return {"network": way.network.path, "steps": way.steps, "taken": list(way.taken)}
    return {"encoder": way.encoder.path, "decoder": way.decoder.path, "steps": way.steps}


def _weights_of(recipe: Recipe) -> list[float]:
    """The guidance weights of the way back, each once."""
    return list(dict.fromkeys(recipe.evaluation.w))


def _num_pictures(ledger: Ledger, recipe: Recipe, data: Artifact) -> int:
    """As many as an evaluation has samples, or all that were held out."""
    from pipeline.data.shards.reader import SampleShards

    return min(recipe.evaluation.num_samples, len(SampleShards(ledger.locate(data), "heldout")))


def open_translators(spec: dict[str, Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Runs once in every worker: serve jobs, each some pictures of one way.

    A part is float32 `[1 + 2 W, n, h, w, c]`: the pictures drawn again as they were, then for each
    of W guidance weights what became of them, then what is drawn from other noise. That of K edits
    by one network is `[(K + 1) W, n, h, w, c]`: for each what became of them, then what is drawn
    from the same noise alone.
    """
    from pipeline.evaluation.reports.encoder_report import sources_of
    from pipeline.sampling.ddim_inversion import Editor, Translator
    from pipeline.sampling.sampler import BundleSampler

    run_dir, weights = Path(spec["run_dir"]), spec["weights"]
    components = run_dir / spec["components"] if spec["components"] else None
    sources = sources_of(run_dir / spec["data"], spec["num_pictures"])

    @functools.lru_cache(maxsize=_LOADED)
    def opened(bundle: str) -> BundleSampler:
        return BundleSampler(run_dir / bundle, components=components)

    def asked(job: dict[str, Any]) -> tuple[Translator | Editor, list[list[int]]]:
        """Who is to turn the pictures, and the evaluations of each outcome by guidance weight."""
        if "taken" in job:
            editor = Editor(opened(job["network"]), job["steps"], tuple(job["taken"]))
            costs = [[editor.evaluations(w, taken) for w in weights] for taken in editor.taken]
            return editor, costs
        translator = Translator(opened(job["encoder"]), opened(job["decoder"]), job["steps"])
        return translator, [[translator.evaluations(w) for w in weights]]

    def serve(job: dict[str, Any]) -> dict[str, Any]:
        turner, costs = asked(job)
        part = run_dir / job["part"]
        if not part.is_file():
            shown = sources.rows(job["first"], CHUNK)
            made = np.stack(turner.turn(shown, weights, spec["seed"], job["first"]))
            # kept by its name alone, so its bytes must be on the disk before it
            replace_durably(part, lambda temporary: write_array(temporary, made))
        return {"way": job["way"], "evaluations": costs}

    return serve


def _joined(
    way: Way | Edit,
    parts: Sequence[Path],
    weights: Sequence[float],
    costs: Sequence[Sequence[int]],
) -> "list[Turned]":
    """What the parts of a way hold: one there and back, or its edits."""
    from pipeline.evaluation.reports.encoder_report import Turned

    made = np.concatenate([np.load(part, allow_pickle=False) for part in parts], axis=1)
    takens: tuple[int | None, ...] = way.taken if isinstance(way, Edit) else (None,)
    back = None if isinstance(way, Edit) else made[0]
    outcomes = made[0 if back is None else 1 :].reshape(-1, len(weights), *made.shape[1:])
    *became, anew = [dict(zip(weights, images, strict=True)) for images in outcomes]
    return [
        Turned(
            who=way.who,
            steps=way.steps,
            evaluations=dict(zip(weights, cost, strict=True)),
            back=back,
            made=made_of_it,
            anew=anew,
            taken=taken,
        )
        for taken, cost, made_of_it in zip(takens, costs, became, strict=True)
    ]
