"""Stage `evaluate`: measure students against their teacher and real data, and write the report.

The report is deterministic: the same inputs give the same bytes, and a second call does no work.
"""

import functools
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.bundle import MANIFEST, Manifest, read_manifest
from pipeline.config import Recipe
from pipeline.config.samplers import BASELINES
from pipeline.data.shards.dataset_info import DatasetInfo, read_info
from pipeline.errors import ConfigError
from pipeline.evaluation.documents import RESAMPLES, EvaluatedBundle, SampleSpec, plan_cells
from pipeline.evaluation.features.extractor_weights import find_weights
from pipeline.evaluation.metrics.manifold import DENSITY_NEIGHBOURS, NEIGHBOURS
from pipeline.ledger import Artifact, Ledger, fingerprint
from pipeline.run_dir import layout
from pipeline.run_dir.layout import RunDir
from stages.evaluation.features import (
    ExtractFeatures,
    classifier_results,
    extractor_features,
    on_workers,
)
from stages.evaluation.sample_sets import SampleInputs, load_samples, sample_cells
from stages.workspace import (
    UNOBSERVED,
    Observer,
    Progress,
    StageResult,
    Workspace,
    data_notes,
    find_or_make,
)

if TYPE_CHECKING:
    from pipeline.evaluation.candidates import ReportInputs, SampleSet

FORMAT = 9  # 9: paired distances, effective w and checks with three answers
FORMAT_UNCLASSED = 10  # 10: as 9

_log = logging.getLogger(__name__)


def evaluate(
    work: Workspace,
    *,
    data: Artifact,
    teacher: Artifact,
    students: Sequence[Artifact],
    components: Artifact | None = None,
    observer: Observer = UNOBSERVED,
    folder: str = layout.REPORT,
) -> StageResult[Artifact]:
    """Sample and measure every student, the teacher and the training-free samplers.

    The artifact lies at `report/`: `report.json` (all numbers), `report.md` and figures.

    Args:
        work: the run; its recipe has the evaluation.
        data: the sharded data set.
        teacher: the guided teacher's bundle.
        students: the bundles of all rounds, in order.
        components: the stock pipeline without its network, for latents.
        observer: receives the progress of sampling and measuring.
        folder: artifact path of the report; a side report has another path than `report`.

    Raises:
        ConfigError: there are too few samples to measure, or the weights of an extractor are
            missing.
    """
    sample_inputs = SampleInputs(data, components)
    key = report_key(work.recipe, sample_inputs, teacher, students)

    def make() -> Artifact:
        return _evaluate(work, key, sample_inputs, teacher, students, observer.progress, folder)

    return find_or_make(work.ledger, key, observer, make)


def _evaluate(
    work: Workspace,
    key: str,
    sample_inputs: SampleInputs,
    teacher: Artifact,
    students: Sequence[Artifact],
    progress: Progress,
    folder: str,
) -> Artifact:
    ledger, recipe, data = work.ledger, work.recipe, sample_inputs.data
    _check_count(recipe, read_info(ledger.locate(data)))
    bundles = (teacher, *students)
    evaluated = [_evaluated_bundle(ledger, bundle) for bundle in bundles]
    cells, skipped = _plan(recipe, evaluated[0], evaluated[1:])
    _check_images(recipe, evaluated[0])
    sampled = sample_cells(work, cells, bundles, sample_inputs, progress)

    extract = on_workers(work.profile, progress)
    inputs = _report_inputs(ledger, recipe, sample_inputs, teacher, sampled, skipped, extract)

    def write(output: Path) -> dict[str, Any]:
        from pipeline.evaluation.reports.agreement import write_agreement
        from pipeline.evaluation.reports.class_conditional import build_report, write_report_files

        if inputs.own is None:
            write_agreement(inputs, output)
        else:
            write_report_files(build_report(inputs), inputs, output)
        return {"sets": len(cells), "num_samples": recipe.evaluation.num_samples}

    parents = tuple(artifact.fingerprint for artifact in (data, *bundles))
    kind = "report" if folder == layout.REPORT else "side report"
    artifact = ledger.publish(kind, key, folder, write, parents)
    _log.info("report: %d sample sets compared, in %s", len(cells), ledger.locate(artifact))
    return artifact


def _report_inputs(
    ledger: Ledger,
    recipe: Recipe,
    sample_inputs: SampleInputs,
    teacher: Artifact,
    sampled: Sequence[tuple[SampleSpec, Artifact]],
    skipped: Sequence[str],
    extract: ExtractFeatures,
) -> "ReportInputs":
    """Return all samples with their classifier outputs and features."""
    from pipeline.evaluation.candidates import ReportInputs

    data, num = sample_inputs.data, recipe.evaluation.num_samples
    has_classes = read_info(ledger.locate(data)).num_classes > 0
    return ReportInputs(
        recipe=recipe,
        data=ledger.locate(data),
        own=classifier_results(ledger, data, sampled, num, extract) if has_classes else None,
        sets=_sample_sets(ledger, sampled),
        skipped=tuple(skipped),
        data_sha256=data.digest,
        teacher_sha256=network_digest(ledger, teacher),
        components_sha256=sample_inputs.components.digest if sample_inputs.components else None,
        readings=tuple(
            extractor_features(ledger, each, data, sampled, num, extract)
            for each in recipe.evaluation.extractors
        ),
        data_notes=data_notes(RunDir(ledger.run_dir)),
    )


def report_key(
    recipe: Recipe, sample_inputs: SampleInputs, teacher: Artifact, students: Sequence[Artifact]
) -> str:
    """Return the fingerprint of a report, from all that determines its bytes."""
    return fingerprint(
        {
            "stage": "evaluate",
            "format": FORMAT if recipe.data.has_classes else FORMAT_UNCLASSED,
            "run": recipe.run.name,
            "evaluation": recipe.evaluation.model_dump(
                mode="json", exclude={"extractors", "edits"}
            ),
            "extractors": [find_weights(each).identity for each in recipe.evaluation.extractors],
            "reference_steps": recipe.teacher.reference_steps,
            "first_steps": recipe.any_steps,
            "measures": [NEIGHBOURS, DENSITY_NEIGHBOURS, RESAMPLES],
            "teacher": teacher.digest,
            "students": [student.digest for student in students],
            **sample_inputs.digests,
        }
    )


def _check_count(recipe: Recipe, info: DatasetInfo) -> None:
    num = recipe.evaluation.num_samples
    if num < 2 * max(1, info.num_classes):
        raise ConfigError(
            f"evaluation.num_samples: {num} is too few for {info.num_classes} classes, two "
            f"samples each are needed; use at least {2 * max(1, info.num_classes)}"
        )


def network_digest(ledger: Ledger, bundle: Artifact) -> str:
    """Return the digest of a bundle without its lineage, which contains the run's name."""
    manifest = json.loads((ledger.locate(bundle) / MANIFEST).read_text(encoding="utf-8"))
    del manifest["lineage"]
    files = {name: file.sha256 for name, file in bundle.files.items() if name != MANIFEST}
    return fingerprint({"manifest": manifest, "files": files})


def _evaluated_bundle(ledger: Ledger, bundle: Artifact) -> EvaluatedBundle:
    manifest = read_manifest(ledger.locate(bundle))
    return EvaluatedBundle(manifest=manifest, path=bundle.path, digest=bundle.digest)


def _plan(
    recipe: Recipe, teacher: EvaluatedBundle, students: Sequence[EvaluatedBundle]
) -> tuple[list[SampleSpec], list[str]]:
    from pipeline.evaluation.figures.grids import unsupported_shape_reason
    from pipeline.models.assemble import schedule_of
    from pipeline.sampling.solvers import SAMPLERS

    manifest: Manifest = teacher.manifest
    channels, *axes = manifest.latent_shape
    schedule = schedule_of(manifest.schedule)
    reasons = {
        name: SAMPLERS.get(name)().unsupported_reason(schedule)
        for name in dict.fromkeys((*BASELINES, *recipe.evaluation.samplers))
    }
    no_picture = unsupported_shape_reason((*axes, channels))
    samplers = [each for each in recipe.evaluation.samplers if not reasons[each]]
    cells = plan_cells(recipe, teacher, students, samplers)
    return cells, [reason for reason in dict.fromkeys((*reasons.values(), no_picture)) if reason]


def _check_images(recipe: Recipe, teacher: EvaluatedBundle) -> None:
    channels = 3 if teacher.manifest.pipeline else teacher.manifest.latent_shape[0]
    if recipe.evaluation.extractors and channels not in (1, 3):
        raise ConfigError(
            f"evaluation.extractors: samples have {channels} channels, extractors support 1 or "
            "3; remove the extractors"
        )


def _sample_sets(
    ledger: Ledger, sampled: Sequence[tuple[SampleSpec, Artifact]]
) -> "tuple[SampleSet, ...]":
    from pipeline.evaluation.candidates import SampleSet

    return tuple(
        SampleSet(
            cell=cell,
            evaluations=samples.details["evaluations"],
            load=functools.partial(load_samples, ledger.locate(samples)),
        )
        for cell, samples in sampled
    )
