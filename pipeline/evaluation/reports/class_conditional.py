"""From sets of samples to a report with its pictures: the part that needs no cluster."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.data.shards.dataset_info import read_info
from pipeline.evaluation.candidates import Comparison, OwnReadings, SampleSet, columns_of
from pipeline.evaluation.dataset_images import class_means, real_images, rows_like
from pipeline.evaluation.documents import Protocol, Report, Row
from pipeline.evaluation.extractor_metrics import panels_of
from pipeline.evaluation.features.classifier import FEATURES_SAY, READER, identity_of, read_card
from pipeline.evaluation.figures.curves import draw_curve, draw_panel, draw_pareto, draw_tradeoff
from pipeline.evaluation.figures.grids import (
    Column,
    draw_prompts,
    draw_samples,
    prompt_picture,
    why_no_picture,
)
from pipeline.evaluation.metric_specs import Setting, own_metrics, setting_of
from pipeline.evaluation.reports.markdown import write_report
from pipeline.evaluation.scoring import Judge, ReadImages, Teacher, moments_of
from pipeline.evaluation.verdicts.checks import Judged, Verdict, examine
from pipeline.sampling.conditions import Asked, asked_of, hidden_pictures


def compose(comparison: Comparison) -> Report:
    """Measure everything."""
    recipe, info, own = comparison.recipe, read_info(comparison.data), comparison.own
    if own is None:
        raise TypeError(
            "without classes there is no classifier; see pipeline.evaluation.reports.agreement"
        )
    training, training_labels = real_images(comparison.data, "train")
    reads_prompts = recipe.data.source == "captioned_digits"
    judge = Judge(
        own.heldout.features,
        training,
        class_names=info.class_names,
        reads_prompts=reads_prompts,
    )
    asked = asked_of(comparison.data, recipe.evaluation.num_samples)
    labels = asked.labels
    by_weight = _by_weight(own, comparison.sets)
    rows = _score_cells(judge, by_weight, asked)
    means = ReadImages(class_means(training, training_labels)[labels], own.means)
    like = rows_like(labels, training_labels)
    weights = list(dict.fromkeys(row.cell.w for row in rows))
    setting = setting_of(comparison, len(labels), training.shape[1:])
    panels = panels_of(comparison, asked, setting)
    counts = {"heldout": len(own.heldout.features), "train": len(training)}
    return Report(
        run=recipe.run.name,
        protocol=_protocol(setting, own.classifier, counts),
        metrics=own_metrics(
            setting, (READER, identity_of(own.classifier)), counts, reads_prompts=reads_prompts
        ),
        class_names=info.class_names,
        real=judge.score_training(like, own.training, training_labels[like]),
        rows=rows,
        verdicts=_verdicts(judge, by_weight, rows, asked, means),
        skipped=comparison.skipped,
        pictures=(
            *_picture_names(weights, training.shape[1:], captioned=info.captioned),
            *(panel.curve for panel in panels),
        ),
        panels=panels,
    )


def _protocol(setting: Setting, classifier: Path, counts: Mapping[str, int]) -> Protocol:
    card = read_card(classifier)
    return Protocol(
        features=FEATURES_SAY,
        classifier_sha256=identity_of(classifier),
        classifier_parameters=card.num_parameters,
        classifier_heldout_accuracy=round(card.heldout_accuracy, 6),
        num_samples=setting.num_samples,
        num_heldout=counts["heldout"],
        num_training=counts["train"],
        seed=setting.seed,
        yardstick_seed=setting.yardstick_seed,
        reference_steps=setting.reference_steps,
    )


def publish(report: Report, comparison: Comparison, folder: Path) -> None:
    """Write the report's numbers, tables and pictures into `folder`."""
    write_report(report, folder)
    asked = asked_of(comparison.data, report.protocol.num_samples)
    given = _given(comparison, asked, report.protocol.seed)
    for w in report.weights:
        name = f"grid-w{w:g}.png"
        if name in report.pictures:
            columns = columns_of([each for each in comparison.sets if each.cell.w == w])
            title = f"{report.run}: the same noise in every column, guidance weight w = {w:g}"
            draw_samples(title, columns, asked.labels, report.class_names, folder / name)
            if asked.prompts is not None:
                columns = [*given, *columns]
                draw_prompts(title, columns, asked, folder / prompt_picture(w))
    draw_curve(report, folder / "curve.png")
    if "tradeoff.png" in report.pictures:
        draw_tradeoff(report, folder / "tradeoff.png")
    if "pareto.png" in report.pictures:
        draw_pareto(report, folder / "pareto.png")
    for panel in report.panels:
        draw_panel(report.run, panel, report.protocol.num_samples, folder / panel.curve)


def _given(comparison: Comparison, asked: Asked, seed: int) -> list[Column]:
    """What an inpainting network is given, as a column of a picture."""
    if comparison.recipe.teacher.trained_pipeline != "StableDiffusionInpaintPipeline":
        return []
    hidden = hidden_pictures(comparison.data, asked, seed)
    return [Column(title="given, grey\nis hidden", evaluations=0, images=hidden, student=False)]


@dataclass(frozen=True)
class _AtW:
    """What is compared at one guidance weight; its first set is the teacher's."""

    own: OwnReadings
    teacher: Teacher
    sets: tuple[SampleSet, ...]

    def read(self, each: SampleSet) -> ReadImages:
        """A set with what the classifier sees in it."""
        return ReadImages(each.load(), self.own.of(each.cell))


def _by_weight(own: OwnReadings, sets: Sequence[SampleSet]) -> list[_AtW]:
    yardsticks = {
        each.cell.w: moments_of(own.of(each.cell).features)
        for each in sets
        if each.cell.role == "yardstick"
    }
    found = []
    for w in yardsticks:
        compared = [each for each in sets if each.cell.w == w and each.cell.role != "yardstick"]
        compared.sort(key=lambda each: each.cell.role != "teacher")
        teacher = Teacher(w=w, samples=compared[0].load(), yardsticks=yardsticks)
        found.append(_AtW(own, teacher, tuple(compared)))
    return found


def _score_cells(judge: Judge, weights: Sequence[_AtW], asked: Asked) -> tuple[Row, ...]:
    return tuple(
        Row(
            cell=each.cell,
            evaluations=each.evaluations,
            scores=judge.score(at_w.read(each), asked, at_w.teacher, each.cell.seed),
        )
        for at_w in weights
        for each in at_w.sets
    )


def _verdicts(
    judge: Judge,
    weights: Sequence[_AtW],
    rows: Sequence[Row],
    asked: Asked,
    means: ReadImages,
) -> tuple[Verdict, ...]:
    found = []
    for at_w in weights:
        w = at_w.teacher.w
        scored = [row for row in rows if row.cell.w == w]
        teacher = scored[0].scores
        found += [
            examine(
                "student", row.cell.title, w, row.scores, teacher, is_paired=not row.cell.adds_noise
            )
            for row in scored
            if row.cell.role == "student"
        ]
        for bad in _controls(at_w, weights, means):
            scores = judge.score(bad.read, asked, at_w.teacher, scored[0].cell.seed)
            found.append(
                examine(bad.judged, bad.title, w, scores, teacher, is_paired=bad.is_paired)
            )
    return tuple(found)


@dataclass(frozen=True)
class _Control:
    """Samples that are bad on purpose, in a way that some number takes for good.

    They are asked what a student is asked whose samples are pairs of the teacher's, or are not.
    """

    judged: Judged
    title: str
    read: ReadImages
    is_paired: bool = True


def _controls(at_w: _AtW, weights: Sequence[_AtW], means: ReadImages) -> Iterator[_Control]:
    yield _Control("class means", "every sample the mean of its class", means)
    unguided = [each for other in weights if other.teacher.w == 0 for each in other.sets]
    students = [each for each in unguided if each.cell.role == "student"]
    if students and at_w.teacher.w != 0:
        last = students[-1]
        title = f"{last.cell.title}, told w = 0"
        yield _Control("w forced to 0", title, at_w.read(last), not last.cell.adds_noise)


def _picture_names(
    weights: Sequence[float], shape: tuple[int, ...], *, captioned: bool
) -> tuple[str, ...]:
    grids = () if why_no_picture(shape) else tuple(f"grid-w{w:g}.png" for w in weights)
    prompts = tuple(prompt_picture(w) for w in weights) if captioned and grids else ()
    tradeoff = ("tradeoff.png", "pareto.png") if len(weights) > 1 else ()
    return (*prompts, *grids, "curve.png", *tradeoff)
