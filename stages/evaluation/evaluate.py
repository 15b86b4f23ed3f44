"""Stage `evaluate`: how near the students are to their teacher and to real data, in a report.

The report is content only: the same inputs give the same bytes, and a second call does no work.
"""

import functools
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.bundle import MANIFEST, Manifest, read_manifest
from pipeline.config import Recipe, UnclassedData
from pipeline.config.profile import Profile
from pipeline.data.shards.dataset_info import DatasetInfo, read_info
from pipeline.errors import ConfigError
from pipeline.evaluation.documents import RESAMPLES, Cell, Entrant, plan_cells
from pipeline.evaluation.features.extractor_weights import find_weights
from pipeline.evaluation.metrics.manifold import DENSITY_NEIGHBOURS, NEIGHBOURS
from pipeline.ledger import Artifact, Ledger, fingerprint
from stages.evaluation.measurements import Read, extractor_readings, on_workers, own_readings
from stages.evaluation.sample_sets import Progress, Subject, draw_sets

if TYPE_CHECKING:
    from pipeline.evaluation.candidates import Comparison, SampleSet

REPORT = "report"
FORMAT = 7  # 7 widens intervals by what drawing from few falls short of
FORMAT_UNCLASSED = 8  # the same; 8 asks its controls what it asks students

_log = logging.getLogger(__name__)


def evaluate(
    run_dir: Path,
    recipe: Recipe,
    profile: Profile,
    *,
    data: Artifact,
    teacher: Artifact,
    students: Sequence[Artifact],
    components: Artifact | None = None,
    progress: Progress = lambda done, total: None,  # noqa: ARG005
    folder: str = REPORT,
) -> Artifact:
    """Sample and measure every student, the teacher and the training-free samplers.

    The artifact lies at `report/`: `report.json` (all numbers), `report.md` and pictures.

    Args:
        run_dir: the run directory, seen by every worker.
        recipe: says what to compare.
        profile: where to run.
        data: the sharded data set.
        teacher: the guided teacher's bundle.
        students: the bundles of all rounds, in order.
        components: what surrounds networks of latents in their stock pipeline.
        progress: told (parts done, parts in all) while samples are drawn and read.
        folder: where the report goes; any other than `report/` does not count as the run's own.

    Raises:
        ConfigError: too few samples are asked for to measure anything, or the weights of an
            extractor are missing.
    """
    ledger = Ledger(run_dir)
    subject = Subject(data, components)
    key = report_key(recipe, subject, teacher, students)
    found = ledger.find(key)
    if found:
        return found
    _check_count(recipe, read_info(ledger.locate(data)))
    bundles = (teacher, *students)
    entrants = [_entrant(ledger, bundle) for bundle in bundles]
    cells, skipped = _plan(recipe, entrants[0], entrants[1:])
    _check_images(recipe, entrants[0])
    drawn = draw_sets(ledger, recipe, profile, cells, bundles, subject, progress)

    read = on_workers(profile, progress)
    comparison = _comparison(ledger, recipe, subject, teacher, drawn, skipped, read)

    def write(output: Path) -> dict[str, Any]:
        from pipeline.evaluation.reports.agreement import write_agreement
        from pipeline.evaluation.reports.class_conditional import compose, publish

        if comparison.own is None:
            write_agreement(comparison, output)
        else:
            publish(compose(comparison), comparison, output)
        return {"sets": len(cells), "num_samples": recipe.evaluation.num_samples}

    parents = tuple(artifact.fingerprint for artifact in (data, *bundles))
    kind = "report" if folder == REPORT else "side report"
    artifact = ledger.publish(kind, key, folder, write, parents)
    _log.info("report: %d sets of samples compared, in %s", len(cells), ledger.locate(artifact))
    return artifact


def _comparison(
    ledger: Ledger,
    recipe: Recipe,
    subject: Subject,
    teacher: Artifact,
    drawn: Sequence[tuple[Cell, Artifact]],
    skipped: Sequence[str],
    read: Read,
) -> "Comparison":
    """All samples, and what every network has seen in them."""
    from pipeline.evaluation.candidates import Comparison

    data, num = subject.data, recipe.evaluation.num_samples
    has_classes = read_info(ledger.locate(data)).num_classes > 0
    return Comparison(
        recipe=recipe,
        data=ledger.locate(data),
        own=own_readings(ledger, data, drawn, num, read) if has_classes else None,
        sets=_sample_sets(ledger, drawn),
        skipped=tuple(skipped),
        data_sha256=data.digest,
        teacher_sha256=network_digest(ledger, teacher),
        components_sha256=subject.components.digest if subject.components else None,
        readings=tuple(
            extractor_readings(ledger, each, data, drawn, num, read)
            for each in recipe.evaluation.extractors
        ),
    )


def report_key(
    recipe: Recipe, subject: Subject, teacher: Artifact, students: Sequence[Artifact]
) -> str:
    """The fingerprint of a report: all that determines its bytes."""
    return fingerprint(
        {
            "stage": "evaluate",
            "format": FORMAT_UNCLASSED if isinstance(recipe.data, UnclassedData) else FORMAT,
            "run": recipe.run.name,
            "evaluation": recipe.evaluation.model_dump(
                mode="json", exclude={"extractors", "edits"}
            ),
            "extractors": [find_weights(each).identity for each in recipe.evaluation.extractors],
            "reference_steps": recipe.teacher.reference_steps,
            "first_steps": recipe.halving.first_steps,
            "measures": [NEIGHBOURS, DENSITY_NEIGHBOURS, RESAMPLES],
            "teacher": teacher.digest,
            "students": [student.digest for student in students],
            **subject.digests,
        }
    )


def _check_count(recipe: Recipe, info: DatasetInfo) -> None:
    num = recipe.evaluation.num_samples
    if num < 2 * max(1, info.num_classes):
        raise ConfigError(
            f"evaluation.num_samples: {num} is fewer than two samples for each of the "
            f"{info.num_classes} classes; use at least {2 * info.num_classes}"
        )


def network_digest(ledger: Ledger, bundle: Artifact) -> str:
    """Of all of a bundle that draws; its lineage, which has the run's name in it, does not."""
    manifest = json.loads((ledger.locate(bundle) / MANIFEST).read_text(encoding="utf-8"))
    del manifest["lineage"]
    files = {name: file.sha256 for name, file in bundle.files.items() if name != MANIFEST}
    return fingerprint({"manifest": manifest, "files": files})


def _entrant(ledger: Ledger, bundle: Artifact) -> Entrant:
    manifest = read_manifest(ledger.locate(bundle))
    return Entrant(manifest=manifest, path=bundle.path, digest=bundle.digest)


def _plan(
    recipe: Recipe, teacher: Entrant, students: Sequence[Entrant]
) -> tuple[list[Cell], list[str]]:
    from pipeline.evaluation.figures.grids import why_no_picture
    from pipeline.models.assemble import schedule_of
    from pipeline.sampling.solvers import why_not_solver

    manifest: Manifest = teacher.manifest
    channels, height, width = manifest.latent_shape
    no_solver = why_not_solver(schedule_of(manifest.schedule))
    no_picture = why_no_picture((height, width, channels))
    samplers = [each for each in recipe.evaluation.samplers if each == "ddim" or not no_solver]
    cells = plan_cells(recipe, teacher, students, samplers)
    return cells, [reason for reason in (no_solver, no_picture) if reason]


def _check_images(recipe: Recipe, teacher: Entrant) -> None:
    channels = 3 if teacher.manifest.pipeline else teacher.manifest.latent_shape[0]
    if recipe.evaluation.extractors and channels not in (1, 3):
        raise ConfigError(
            f"evaluation.extractors: samples have {channels} channels, extractors read 1 or 3; "
            "drop it"
        )


def _sample_sets(ledger: Ledger, drawn: Sequence[tuple[Cell, Artifact]]) -> "tuple[SampleSet, ...]":
    from pipeline.evaluation.candidates import SampleSet

    return tuple(
        SampleSet(
            cell=cell,
            evaluations=samples.details["evaluations"],
            load=functools.partial(np.load, ledger.locate(samples)),
        )
        for cell, samples in drawn
    )
