"""Stage `translate`: compare the encoders of a run with DDIM inversion by the teacher."""

import logging
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.bundle import Manifest, read_manifest
from pipeline.config import Recipe, ScheduleConfig
from pipeline.data.shards.dataset_info import read_info
from pipeline.diffusion.grid import nearest_point
from pipeline.ledger import Artifact, Ledger, fingerprint
from pipeline.run_dir import layout
from pipeline.sampling.solvers import default_sampler
from stages.evaluation.encoder_worker import (
    CHUNK,
    EditSpec,
    RoundTripSpec,
    remove_parts,
    round_trips,
)
from stages.evaluation.sample_sets import SampleInputs
from stages.workspace import UNOBSERVED, Observer, Progress, StageResult, Workspace, find_or_make

if TYPE_CHECKING:
    from pipeline.evaluation.reports.encoder_report import RoundTrip

FORMAT = 4  # 4: exact intervals of means and shares

_log = logging.getLogger(__name__)


def encoders_key(recipe: Recipe, sample_inputs: SampleInputs, bundles: Sequence[Artifact]) -> str:
    """Return the fingerprint of an encoders' report, from all that determines its bytes."""
    return fingerprint(
        {
            "stage": "translate",
            "format": FORMAT,
            "chunk": CHUNK,
            "run": recipe.run.name,
            "evaluation": recipe.evaluation.model_dump(
                mode="json", include={"num_samples", "w", "seed", "edits"}
            ),
            "reference_steps": recipe.teacher.reference_steps,
            "bundles": [bundle.digest for bundle in bundles],
            **sample_inputs.digests,
        }
    )


def evaluate_encoders(
    work: Workspace,
    *,
    bundles: Sequence[Artifact],
    sample_inputs: SampleInputs,
    observer: Observer = UNOBSERVED,
) -> StageResult[Artifact]:
    """Measure round trips of held-out images by the teacher and by every encoder-decoder pair.

    If the recipe has edits, the teacher and every deterministic student edit the images as well.
    The artifact lies at `encoders/`: `report.json`, `report.md` and figures.

    Args:
        work: the run; its recipe has the guidance weights, the number of images and the edit
            strengths.
        bundles: the teacher, then the students of all rounds.
        sample_inputs: the data set, and the components of latent-space networks.
        observer: receives the number of parts.

    Raises:
        BundleError: a bundle is damaged, or does not support its round trip or edit.
    """
    key = encoders_key(work.recipe, sample_inputs, bundles)

    def make() -> Artifact:
        return _evaluate_encoders(work, key, bundles, sample_inputs, observer.progress)

    return find_or_make(work.ledger, key, observer, make)


def _evaluate_encoders(
    work: Workspace,
    key: str,
    bundles: Sequence[Artifact],
    sample_inputs: SampleInputs,
    progress: Progress,
) -> Artifact:
    ledger, recipe = work.ledger, work.recipe
    specs = _specs(ledger, recipe, bundles)
    trips = round_trips(work, specs, sample_inputs, key, progress)

    def write(folder: Path) -> dict[str, Any]:
        return _compare(folder, ledger, recipe, sample_inputs.data, trips)

    parents = (sample_inputs.data.fingerprint, *(bundle.fingerprint for bundle in bundles))
    artifact = ledger.publish("side report", key, layout.ENCODERS, write, parents)
    remove_parts(work.run_dir)
    _log.info("encoders: report in %s", ledger.locate(artifact))
    return artifact


def _compare(
    folder: Path, ledger: Ledger, recipe: Recipe, data: Artifact, trips: "Sequence[RoundTrip]"
) -> dict[str, Any]:
    from pipeline.evaluation.features.classifier import Classifier
    from pipeline.evaluation.figures.grids import unsupported_shape_reason
    from pipeline.evaluation.reports.encoder_report import (
        TranslationReport,
        picture_name,
        score_round_trips,
        sources_of,
        write_translation,
    )

    data_dir = ledger.locate(data)
    sources = sources_of(data_dir, recipe.evaluation.num_samples)
    # the classifier of the run's report; data without classes have none
    classifiers = [each for each in ledger.records() if each.kind == "classifier"]
    classifier = Classifier(ledger.locate(classifiers[0])) if classifiers else None
    rows = score_round_trips(
        trips,
        sources,
        recipe.evaluation.seed,
        None
        if classifier is None
        else lambda images: classifier.read(images).probabilities.argmax(1),
    )
    shown = () if unsupported_shape_reason(sources.pictures.shape[1:]) else tuple(trips[0].made)
    kinds = dict.fromkeys(way.picture for way in trips)
    report = TranslationReport(
        run=recipe.run.name,
        num_pictures=len(sources.pictures),
        rows=rows,
        pictures=tuple(picture_name(w, kind) for kind in kinds for w in shown),
    )
    write_translation(report, sources, trips, read_info(data_dir).class_names, folder)
    return {"pictures": len(sources.pictures)}


def encoder_pairs(manifests: Sequence[Manifest], first_steps: int) -> list[tuple[int, int, int]]:
    """Return (encoder, decoder, steps) by index in `manifests`, from many steps to few.

    The stage-1 student is its own decoder at any number of steps; it is paired at `first_steps`.
    Every encoder is paired with the deterministic decoder of the same number of steps.
    """
    students = [(at, each) for at, each in enumerate(manifests) if each.role == "student"]
    found = [(at, at, first_steps) for at, each in students if each.steps is None]
    decoders: dict[int, int] = {}
    for at, each in students:
        if each.steps and each.direction == "decode" and default_sampler(each) == "ddim":
            decoders.setdefault(
                each.steps[0], at
            )  # each of two ladders may have a student of this many steps
    for at, each in students:
        if each.steps and each.direction == "encode" and each.steps[0] in decoders:
            found.append((at, decoders[each.steps[0]], each.steps[0]))
    return sorted(found, key=lambda pair: -pair[2])


def edit_plans(
    manifests: Sequence[Manifest], strengths: Sequence[float], first_steps: int, reference: int
) -> Iterator[tuple[int, int, tuple[int, ...]]]:
    """Yield (network, grid steps, taken steps) by index in `manifests`, the teacher first.

    A student takes the number of steps nearest to each strength on its own grid; strengths nearest
    to 0 steps are left out. The teacher edits at every start time of a student: in its reference
    steps, or in the fewest larger number of steps whose grid contains that time.

    Args:
        manifests: the teacher's, then those of the students.
        strengths: edit strengths in (0, 1].
        first_steps: grid steps of the stage-1 student.
        reference: reference steps of the teacher.
    """
    found = []
    for at, each in enumerate(manifests):
        if (each.role, each.direction, each.sampler) == ("student", "decode", "deterministic"):
            steps = each.steps[0] if each.steps else first_steps
            taken = {nearest_point(strength, steps) for strength in strengths} - {0}
            if taken:
                found.append((at, steps, tuple(sorted(taken))))
    times = {Fraction(point, steps) for _, steps, taken in found for point in taken}
    by_grid: dict[int, list[int]] = {}
    for time in sorted(times):
        grid = _grid_with(time, reference, manifests[0].schedule)
        by_grid.setdefault(grid, []).append(int(time * grid))
    yield from ((0, grid, tuple(taken)) for grid, taken in sorted(by_grid.items()))
    yield from sorted(found, key=lambda editor: -editor[1])


def _grid_with(time: Fraction, steps: int, schedule: ScheduleConfig) -> int:
    """Return the fewest steps, at least `steps`, of a grid that contains `time`, else the most."""
    most = schedule.num_train_timesteps
    fitting = [
        count
        for count in range(time.denominator, most + 1, time.denominator)
        if schedule.holds(count)
    ]
    return next((count for count in fitting if count >= steps), fitting[-1])


def _specs(
    ledger: Ledger, recipe: Recipe, bundles: Sequence[Artifact]
) -> list[RoundTripSpec | EditSpec]:
    manifests = [read_manifest(ledger.locate(bundle)) for bundle in bundles]
    reference = recipe.teacher.reference_steps
    found: list[RoundTripSpec | EditSpec] = [
        RoundTripSpec("teacher", bundles[0], bundles[0], reference)
    ]
    for encoder, decoder, steps in encoder_pairs(manifests, recipe.most_steps):
        label = "stage-1 student" if encoder == decoder else "encoder and student"
        found.append(RoundTripSpec(label, bundles[encoder], bundles[decoder], steps))
    strengths, most = recipe.evaluation.edits, recipe.most_steps
    for at, steps, taken in edit_plans(manifests, strengths, most, reference):
        student = "student" if manifests[at].steps else "stage-1 student"
        found.append(EditSpec(student if at else "teacher", bundles[at], steps, taken))
    return found
