"""Stage `translate`: how well the encoders of a run do, beside the teacher's own way and back."""

import logging
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.bundle import Manifest, read_manifest
from pipeline.config import Recipe, ScheduleConfig
from pipeline.config.profile import Profile
from pipeline.data.shards.dataset_info import read_info
from pipeline.diffusion.grid import nearest_point
from pipeline.ledger import Artifact, Ledger, fingerprint
from pipeline.sampling.solvers import own_sampler
from stages.evaluation.encoder_worker import CHUNK, Edit, Way, forget_parts, turn
from stages.evaluation.sample_sets import Progress, Subject

if TYPE_CHECKING:
    from pipeline.evaluation.reports.encoder_report import Turned

FOLDER = "encoders"
LABEL = "evaluate the encoders"
FORMAT = 3  # 3 widens intervals by what drawing from few falls short of

_log = logging.getLogger(__name__)


def translation_key(recipe: Recipe, subject: Subject, bundles: Sequence[Artifact]) -> str:
    """The fingerprint of an encoders' report: all that determines its bytes."""
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
            **subject.digests,
        }
    )


def translate(
    run_dir: Path,
    recipe: Recipe,
    profile: Profile,
    *,
    bundles: Sequence[Artifact],
    subject: Subject,
    progress: Progress,
) -> Artifact:
    """Translate held-out pictures by the teacher and by every pair of students, and measure it.

    Where the recipe asks for edits, the teacher and every deterministic student edit them as well.
    The artifact lies at `encoders/`: `report.json`, `report.md` and pictures.

    Args:
        run_dir: the run directory.
        recipe: says at which w, how many pictures, and how strong edits are.
        profile: where workers draw.
        bundles: the teacher, then the students of all rounds.
        subject: the data set, and what surrounds networks of latents.
        progress: is told (parts done, parts in all).

    Raises:
        BundleError: a bundle is damaged, or was not made for this.
    """
    ledger = Ledger(run_dir)
    key = translation_key(recipe, subject, bundles)
    found = ledger.find(key)
    if found:
        return found
    ways = _ways(ledger, recipe, bundles)
    turned = turn(ledger, recipe, profile, ways, subject, key, progress)

    def write(folder: Path) -> dict[str, Any]:
        return _compare(folder, ledger, recipe, subject.data, turned)

    parents = (subject.data.fingerprint, *(bundle.fingerprint for bundle in bundles))
    artifact = ledger.publish("side report", key, FOLDER, write, parents)
    forget_parts(run_dir)
    _log.info("encoders: compared, in %s", ledger.locate(artifact))
    return artifact


def _compare(
    folder: Path, ledger: Ledger, recipe: Recipe, data: Artifact, turned: "Sequence[Turned]"
) -> dict[str, Any]:
    from pipeline.evaluation.features.classifier import Classifier
    from pipeline.evaluation.figures.grids import why_no_picture
    from pipeline.evaluation.reports.encoder_report import (
        TranslationReport,
        compare,
        picture_name,
        sources_of,
        write_translation,
    )

    place = ledger.locate(data)
    sources = sources_of(place, recipe.evaluation.num_samples)
    # the one that the run's report was made with; data without classes have none
    seen = [each for each in ledger.records() if each.kind == "classifier"]
    seer = Classifier(ledger.locate(seen[0])) if seen else None
    rows = compare(
        turned,
        sources,
        recipe.evaluation.seed,
        None if seer is None else lambda images: seer.read(images).probabilities.argmax(1),
    )
    shown = () if why_no_picture(sources.pictures.shape[1:]) else tuple(turned[0].made)
    kinds = dict.fromkeys(way.picture for way in turned)
    report = TranslationReport(
        run=recipe.run.name,
        num_pictures=len(sources.pictures),
        rows=rows,
        pictures=tuple(picture_name(w, kind) for kind in kinds for w in shown),
    )
    write_translation(report, sources, turned, read_info(place).class_names, folder)
    return {"pictures": len(sources.pictures)}


def pairs(manifests: Sequence[Manifest], first_steps: int) -> list[tuple[int, int, int]]:
    """(encoder, decoder, steps) by index in `manifests`, from many steps to few.

    The stage-1 student, which goes both ways in any number of steps, takes as many as the encoders'
    chain begins with; after it come encoders with the decoder of as many steps.
    """
    students = [(at, each) for at, each in enumerate(manifests) if each.role == "student"]
    found = [(at, at, first_steps) for at, each in students if each.steps is None]
    decoders: dict[int, int] = {}
    for at, each in students:
        if each.steps and each.direction == "decode" and own_sampler(each) == "ddim":
            decoders.setdefault(each.steps[0], at)  # of two ladders, both may have one of one step
    for at, each in students:
        if each.steps and each.direction == "encode" and each.steps[0] in decoders:
            found.append((at, decoders[each.steps[0]], each.steps[0]))
    return sorted(found, key=lambda pair: -pair[2])


def editors(
    manifests: Sequence[Manifest], strengths: Sequence[float], first_steps: int, reference: int
) -> Iterator[tuple[int, int, tuple[int, ...]]]:
    """(network, steps of its grid, how many are taken) by index in `manifests`, the teacher first.

    A student takes what is nearest to a strength on its own grid, and has no edit where that is
    nothing. The teacher edits at every time that a student does: in its reference steps, or, if
    that time lies between them, in the fewest above them that have it and that its grid holds.

    Args:
        manifests: the teacher's, then those of students.
        strengths: in (0, 1].
        first_steps: of the stage-1 student, which takes any number.
        reference: steps of the teacher.
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
    """The fewest steps, at least `steps`, of a grid that has a time; the most there are if none."""
    most = schedule.num_train_timesteps
    fitting = [
        count
        for count in range(time.denominator, most + 1, time.denominator)
        if schedule.holds(count)
    ]
    return next((count for count in fitting if count >= steps), fitting[-1])


def _ways(ledger: Ledger, recipe: Recipe, bundles: Sequence[Artifact]) -> list[Way | Edit]:
    manifests = [read_manifest(ledger.locate(bundle)) for bundle in bundles]
    first = recipe.encoding.steps[0] if recipe.encoding else recipe.halving.steps[0]
    reference = recipe.teacher.reference_steps
    found: list[Way | Edit] = [Way("teacher", bundles[0], bundles[0], reference)]
    for encoder, decoder, steps in pairs(manifests, first):
        who = "stage-1 student" if encoder == decoder else "encoder and student"
        found.append(Way(who, bundles[encoder], bundles[decoder], steps))
    strengths, most = recipe.evaluation.edits, recipe.halving.steps[0]
    for at, steps, taken in editors(manifests, strengths, most, reference):
        student = "student" if manifests[at].steps else "stage-1 student"
        found.append(Edit(student if at else "teacher", bundles[at], steps, taken))
    return found
