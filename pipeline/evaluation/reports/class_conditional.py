"""Report on class-conditional data: metrics, verdicts and figures from sample sets."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.data.shards.dataset_info import read_info
from pipeline.evaluation.candidates import ClassifierResults, ReportInputs, SampleSet, columns_of
from pipeline.evaluation.dataset_images import (
    class_means,
    labels_of,
    real_images,
    rows_with_class_counts,
)
from pipeline.evaluation.documents import Protocol, Report, Row, SampleSpec
from pipeline.evaluation.extractor_metrics import measured_extractors
from pipeline.evaluation.features.classifier import (
    CLASSIFIER_FEATURES,
    CLASSIFIER_NAME,
    identity_of,
    read_card,
)
from pipeline.evaluation.figures.curves import (
    draw_curve,
    draw_extractor_metrics,
    draw_pareto,
    draw_tradeoff,
)
from pipeline.evaluation.figures.grids import (
    Column,
    draw_prompts,
    draw_samples,
    prompt_picture,
    unsupported_shape_reason,
)
from pipeline.evaluation.metric_specs import ProtocolContext, classifier_metrics, protocol_context
from pipeline.evaluation.metrics.effective_w import TeacherSweep
from pipeline.evaluation.reports.report_summary import write_report
from pipeline.evaluation.scoring import (
    ClassifiedImages,
    Measured,
    Scorer,
    TeacherReference,
    moments_of,
    relative_estimates,
    with_relative_distance,
)
from pipeline.evaluation.verdicts.checks import JudgedNetwork, Verdict, check_samples
from pipeline.sampling.conditions import Conditions, choose_conditions, masked_images


def build_report(comparison: ReportInputs) -> Report:
    """Compute all metrics and verdicts of a comparison with classes.

    Raises:
        TypeError: the comparison has no classifier outputs.
    """
    recipe, info, own = comparison.recipe, read_info(comparison.data), comparison.own
    if own is None:
        raise TypeError(
            "comparison.own is None: data without classes have no classifier; "
            "use pipeline.evaluation.reports.agreement"
        )
    training, training_labels = real_images(comparison.data, "train")
    heldout_labels = labels_of(comparison.data, "heldout")
    reads_prompts = recipe.data.has_captions
    scorer = Scorer(
        own.heldout.features,
        heldout_labels,
        training,
        class_names=info.class_names,
        reads_prompts=reads_prompts,
    )
    conditions = choose_conditions(comparison.data, recipe.evaluation.num_samples)
    labels = conditions.labels
    by_weight = _by_weight(own, comparison.sets)
    measured = _measure_cells(scorer, by_weight, conditions)
    rows = tuple(
        Row(cell=each.cell, evaluations=each.evaluations, scores=measured[each.cell].scores)
        for at_w in by_weight
        for each in at_w.sets
    )
    means = ClassifiedImages(class_means(training, training_labels)[labels], own.means)
    ideal_rows = rows_with_class_counts(labels, training_labels)
    weights = list(dict.fromkeys(row.cell.w for row in rows))
    setting = protocol_context(comparison, len(labels), training.shape[1:])
    panels = tuple(each.metrics for each in measured_extractors(comparison, conditions, setting))
    counts = {"heldout": len(own.heldout.features), "train": len(training)}
    return Report(
        run=recipe.run.name,
        protocol=_protocol(setting, own.classifier, counts),
        metrics=classifier_metrics(
            setting,
            (CLASSIFIER_NAME, identity_of(own.classifier)),
            counts,
            reads_prompts=reads_prompts,
        ),
        class_names=info.class_names,
        real=scorer.score_training(ideal_rows, own.training, training_labels[ideal_rows]),
        rows=rows,
        verdicts=_verdicts(scorer, by_weight, measured, conditions, means),
        skipped=comparison.skipped,
        data_notes=comparison.data_notes,
        pictures=(
            *_picture_names(weights, training.shape[1:], captioned=info.captioned),
            *(panel.curve for panel in panels),
        ),
        panels=panels,
    )


def _protocol(setting: ProtocolContext, classifier: Path, counts: Mapping[str, int]) -> Protocol:
    card = read_card(classifier)
    return Protocol(
        features=CLASSIFIER_FEATURES,
        classifier_sha256=identity_of(classifier),
        classifier_parameters=card.num_parameters,
        classifier_heldout_accuracy=round(card.heldout_accuracy, 6),
        num_samples=setting.num_samples,
        num_heldout=counts["heldout"],
        num_training=counts["train"],
        seed=setting.seed,
        noise_floor_seed=setting.noise_floor_seed,
        reference_steps=setting.reference_steps,
    )


def write_report_files(report: Report, comparison: ReportInputs, folder: Path) -> None:
    """Write the report's JSON, Markdown and figures into `folder`."""
    write_report(report, folder)
    conditions = choose_conditions(comparison.data, report.protocol.num_samples)
    given = _given(comparison, conditions, report.protocol.seed)
    for w in report.weights:
        name = f"grid-w{w:g}.png"
        if name in report.pictures:
            columns = columns_of([each for each in comparison.sets if each.cell.w == w])
            title = f"{report.run}: same noise in every column, guidance weight w = {w:g}"
            draw_samples(title, columns, conditions.labels, report.class_names, folder / name)
            if conditions.prompts is not None:
                columns = [*given, *columns]
                draw_prompts(title, columns, conditions, folder / prompt_picture(w))
    draw_curve(report, folder / "curve.png")
    if "tradeoff.png" in report.pictures:
        draw_tradeoff(report, folder / "tradeoff.png")
    if "pareto.png" in report.pictures:
        draw_pareto(report, folder / "pareto.png")
    for panel in report.panels:
        draw_extractor_metrics(report.run, panel, report.protocol.num_samples, folder / panel.curve)


def _given(comparison: ReportInputs, conditions: Conditions, seed: int) -> list[Column]:
    """Return the masked input of an inpainting network as a figure column; else no column."""
    if comparison.recipe.teacher.trained_pipeline != "StableDiffusionInpaintPipeline":
        return []
    hidden = masked_images(comparison.data, conditions, seed)
    return [Column(title="input, mask\nin grey", evaluations=0, images=hidden, student=False)]


@dataclass(frozen=True)
class _AtW:
    """Sample sets at one guidance weight; the first is the teacher's."""

    own: ClassifierResults
    teacher: TeacherReference
    sets: tuple[SampleSet, ...]

    def read(self, each: SampleSet) -> ClassifiedImages:
        """Load a sample set with its classifier outputs."""
        return ClassifiedImages(each.load(), self.own.of(each.cell))


def _by_weight(own: ClassifierResults, sets: Sequence[SampleSet]) -> list[_AtW]:
    others = {
        each.cell.w: own.of(each.cell).features for each in sets if each.cell.role == "noise_floor"
    }
    images = {each.cell.w: each.load for each in sets if each.cell.role == "teacher"}
    sweep = TeacherSweep(images, others)
    found = []
    for w, features in others.items():
        compared = [each for each in sets if each.cell.w == w and each.cell.role != "noise_floor"]
        compared.sort(key=lambda each: each.cell.role != "teacher")
        teacher = TeacherReference(w, compared[0].load(), moments_of(features), sweep)
        found.append(_AtW(own, teacher, tuple(compared)))
    return found


def _measure_cells(
    scorer: Scorer, weights: Sequence[_AtW], conditions: Conditions
) -> dict[SampleSpec, Measured]:
    """Score every sample set; the teacher's is the first at its w."""
    found: dict[SampleSpec, Measured] = {}
    for at_w in weights:
        teacher = at_w.sets[0].cell
        for each in at_w.sets:
            is_paired = not each.cell.adds_noise
            scored = scorer.score(
                at_w.read(each), conditions, at_w.teacher, each.cell.seed, is_paired=is_paired
            )
            found[each.cell] = with_relative_distance(scored, found.get(teacher, scored))
    return found


def _verdicts(
    scorer: Scorer,
    weights: Sequence[_AtW],
    measured: Mapping[SampleSpec, Measured],
    conditions: Conditions,
    means: ClassifiedImages,
) -> tuple[Verdict, ...]:
    teachers = {at_w.teacher.w: measured[at_w.sets[0].cell] for at_w in weights}
    found = []
    for at_w in weights:
        w = at_w.teacher.w

        def check(
            judged: JudgedNetwork, title: str, samples: Measured, w: float = w, *, is_paired: bool
        ) -> Verdict:
            relative = relative_estimates(samples, w, teachers, conditions.labels)
            teacher = teachers[w].scores
            return check_samples(
                judged, title, w, samples.scores, teacher, relative, is_paired=is_paired
            )

        students = [each.cell for each in at_w.sets if each.cell.role == "student"]
        found += [
            check("student", cell.title, measured[cell], is_paired=not cell.adds_noise)
            for cell in students
        ]
        seed = at_w.sets[0].cell.seed
        for control in _controls(at_w, weights, means):
            is_paired = control.is_paired
            scored = scorer.score(control.read, conditions, at_w.teacher, seed, is_paired=is_paired)
            scored = with_relative_distance(scored, teachers[w])
            found.append(check(control.judged, control.title, scored, is_paired=is_paired))
    return tuple(found)


@dataclass(frozen=True)
class _Control:
    """A negative control: known bad samples that some metric scores well.

    `is_paired` is as for students: whether the samples correspond to the teacher's.
    """

    judged: JudgedNetwork
    title: str
    read: ClassifiedImages
    is_paired: bool = True


def _controls(at_w: _AtW, weights: Sequence[_AtW], means: ClassifiedImages) -> Iterator[_Control]:
    yield _Control("class means", "every sample is the mean of its class", means)
    unguided = [each for other in weights if other.teacher.w == 0 for each in other.sets]
    students = [each for each in unguided if each.cell.role == "student"]
    if students and at_w.teacher.w != 0:
        last = students[-1]
        title = f"{last.cell.title}, w forced to 0"
        yield _Control("w forced to 0", title, at_w.read(last), not last.cell.adds_noise)


def _picture_names(
    weights: Sequence[float], shape: tuple[int, ...], *, captioned: bool
) -> tuple[str, ...]:
    grids = () if unsupported_shape_reason(shape) else tuple(f"grid-w{w:g}.png" for w in weights)
    prompts = tuple(prompt_picture(w) for w in weights) if captioned and grids else ()
    tradeoff = ("tradeoff.png", "pareto.png") if len(weights) > 1 else ()
    return (*prompts, *grids, "curve.png", *tradeoff)
