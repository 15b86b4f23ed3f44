"""From sets of samples to a report with its pictures: the part that needs no cluster."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.data.shards import SampleShards, read_info
from pipeline.evaluation.agreement_figure import draw_panel
from pipeline.evaluation.asking import Asked, asked_of, hidden_pictures
from pipeline.evaluation.classifier import FEATURES_SAY, READER, Classifier
from pipeline.evaluation.columns import Setting, own_metrics, setting_of
from pipeline.evaluation.comparing import Comparison, SampleSet, columns_of
from pipeline.evaluation.fidelity import Judged, Verdict, examine
from pipeline.evaluation.figures import draw_curve, draw_tradeoff
from pipeline.evaluation.grids import Column, draw_samples, why_no_picture
from pipeline.evaluation.panels import panels_of
from pipeline.evaluation.pareto import draw_pareto
from pipeline.evaluation.prompt_grid import draw_prompts, prompt_picture
from pipeline.evaluation.protocol import (
    Protocol,
    Report,
    Row,
)
from pipeline.evaluation.report import write_report
from pipeline.evaluation.sampling import Images, LabelArray
from pipeline.evaluation.scores import Scores
from pipeline.evaluation.scoring import Judge, Teacher


def compose(comparison: Comparison) -> Report:
    """Measure everything."""
    recipe, info = comparison.recipe, read_info(comparison.data)
    if comparison.classifier is None:
        raise TypeError("without classes there is no classifier; see pipeline.evaluation.agreement")
    classifier = Classifier(comparison.classifier)
    heldout, _ = real_images(comparison.data, "heldout")
    training, training_labels = real_images(comparison.data, "train")
    reads_prompts = recipe.data.source == "captioned_digits"
    judge = Judge(classifier, heldout, training, reads_prompts=reads_prompts)
    asked = asked_of(comparison.data, recipe.evaluation.num_samples)
    labels = asked.labels
    by_weight = _by_weight(judge, comparison.sets)
    rows = _score_cells(judge, by_weight, asked)
    means = class_means(training, training_labels)[labels]
    weights = list(dict.fromkeys(row.cell.w for row in rows))
    setting = setting_of(comparison, len(labels), heldout.shape[1:])
    panels = panels_of(comparison, asked, setting)
    counts = {"heldout": len(heldout), "train": len(training)}
    return Report(
        run=recipe.run.name,
        protocol=_protocol(setting, classifier, counts),
        metrics=own_metrics(
            setting, (READER, classifier.identity), counts, reads_prompts=reads_prompts
        ),
        class_names=info.class_names,
        real=_score_real(judge, labels, training_labels),
        rows=rows,
        verdicts=_verdicts(judge, by_weight, rows, asked, means),
        skipped=comparison.skipped,
        pictures=(
            *_picture_names(weights, heldout.shape[1:], captioned=info.captioned),
            *(panel.curve for panel in panels),
        ),
        panels=panels,
    )


def _protocol(setting: Setting, classifier: Classifier, counts: Mapping[str, int]) -> Protocol:
    return Protocol(
        features=FEATURES_SAY,
        classifier_sha256=classifier.identity,
        classifier_parameters=classifier.card.num_parameters,
        classifier_heldout_accuracy=round(classifier.card.heldout_accuracy, 6),
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


def real_images(data: Path, split: str) -> tuple[Images, LabelArray]:
    """All real images of a split, `[n, h, w, c]`, and their labels."""
    shards = SampleShards(data, split)
    batch = shards.read(np.arange(len(shards)))
    images = batch.x.permute(0, 2, 3, 1).contiguous().numpy()
    return images, batch.condition["label"].numpy()


@dataclass(frozen=True)
class _AtW:
    """What is compared at one guidance weight; its first set is the teacher's."""

    teacher: Teacher
    sets: tuple[SampleSet, ...]


def _by_weight(judge: Judge, sets: Sequence[SampleSet]) -> list[_AtW]:
    yardsticks = {
        each.cell.w: judge.moments(each.load()) for each in sets if each.cell.role == "yardstick"
    }
    found = []
    for w in yardsticks:
        compared = [each for each in sets if each.cell.w == w and each.cell.role != "yardstick"]
        compared.sort(key=lambda each: each.cell.role != "teacher")
        teacher = Teacher(w=w, samples=compared[0].load(), yardsticks=yardsticks)
        found.append(_AtW(teacher, tuple(compared)))
    return found


def _score_cells(judge: Judge, weights: Sequence[_AtW], asked: Asked) -> tuple[Row, ...]:
    return tuple(
        Row(
            cell=each.cell,
            evaluations=each.evaluations,
            scores=judge.score(each.load(), asked, at_w.teacher, each.cell.seed),
        )
        for at_w in weights
        for each in at_w.sets
    )


def _verdicts(
    judge: Judge,
    weights: Sequence[_AtW],
    rows: Sequence[Row],
    asked: Asked,
    means: Images,
) -> tuple[Verdict, ...]:
    found = []
    for at_w in weights:
        w = at_w.teacher.w
        scored = [row for row in rows if row.cell.w == w]
        found += [
            examine("student", row.cell.title, w, row.scores, scored[0].scores)
            for row in scored
            if row.cell.role == "student"
        ]
        for name, title, images in _controls(at_w, weights, means):
            scores = judge.score(images, asked, at_w.teacher, scored[0].cell.seed)
            found.append(examine(name, title, w, scores, scored[0].scores))
    return tuple(found)


def _controls(
    at_w: _AtW, weights: Sequence[_AtW], means: Images
) -> Iterator[tuple[Judged, str, Images]]:
    """Samples that are bad on purpose, each in a way that some number takes for good."""
    yield "class means", "every sample the mean of its class", means
    unguided = [each for other in weights if other.teacher.w == 0 for each in other.sets]
    students = [each for each in unguided if each.cell.role == "student"]
    if students and at_w.teacher.w != 0:
        last = students[-1]
        yield "w forced to 0", f"{last.cell.title}, told w = 0", last.load()


def _score_real(judge: Judge, labels: LabelArray, training_labels: LabelArray) -> Scores:
    # as many of each class as are sampled, or as there are
    wanted = np.bincount(labels)
    rows = np.concatenate(
        [np.flatnonzero(training_labels == label)[:count] for label, count in enumerate(wanted)]
    )
    return judge.score_training(rows, training_labels[rows])


def class_means(images: Images, labels: LabelArray) -> Images:
    """The mean image of every class `[classes, h, w, c]`; classes are 0, 1, ... without a gap."""
    return np.stack([images[labels == label].mean(0) for label in np.unique(labels)])


def _picture_names(
    weights: Sequence[float], shape: tuple[int, ...], *, captioned: bool
) -> tuple[str, ...]:
    grids = () if why_no_picture(shape) else tuple(f"grid-w{w:g}.png" for w in weights)
    prompts = tuple(prompt_picture(w) for w in weights) if captioned and grids else ()
    tradeoff = ("tradeoff.png", "pareto.png") if len(weights) > 1 else ()
    return (*prompts, *grids, "curve.png", *tradeoff)
