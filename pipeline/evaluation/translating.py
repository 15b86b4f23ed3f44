"""How well encoders do: pictures come back, and become pictures of another condition.

Held-out pictures are encoded unguided and drawn again under the same condition (the round trip),
and under that of another class at every guidance weight. What there is to compare with: the
teacher's own way there and back in many steps, and pictures drawn anew, which know nothing of their
source.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.data.shards import SampleShards
from pipeline.documents import Document
from pipeline.evaluation.asking import asked_of, rows_of
from pipeline.evaluation.grids import Column, draw_samples
from pipeline.evaluation.metrics import paired_rms
from pipeline.evaluation.sampling import Images, LabelArray
from pipeline.evaluation.translation import UNGUIDED, Asked, Translator
from pipeline.randomness import RowRandom

Read = Callable[[Images], LabelArray]
"""The classes that a classifier sees in pictures."""


@dataclass(frozen=True)
class Sources:
    """Held-out pictures, what they are, and what they are to become.

    Attributes:
        pictures: float32 `[n, h, w, c]` in [-1, 1].
        source: the condition of each.
        labels: the class of each, int64 `[n]`.
        target: the condition it is to be given: that of the picture half the list further on.
        target_labels: the class of that.
    """

    pictures: Images
    source: Asked
    labels: LabelArray
    target: Asked
    target_labels: LabelArray


class TranslationRow(Document):
    """One way there and back at one guidance weight; differences are RMS, pixels in [-1, 1].

    Attributes:
        who: encoder and decoder in words.
        steps: each way.
        evaluations: of the network for one picture, both ways.
        w: guidance weight of the way back.
        round_trip: the picture against itself, drawn again under its own condition, unguided.
        class_accuracy: share of pictures taken for what they were to become; None without classes.
        to_source: the picture against what became of it.
        fresh_to_source: the picture against one drawn from other noise under the same condition.
        to_teacher: what became of it against what the teacher makes of it.
    """

    who: str
    steps: int
    evaluations: int
    w: float
    round_trip: float
    class_accuracy: float | None
    to_source: float
    fresh_to_source: float
    to_teacher: float


class TranslationReport(Document):
    """The result: content only.

    Attributes:
        run: the recipe's name.
        num_pictures: held-out pictures that were translated.
        rows: by w, the teacher's first.
        pictures: file names beside the report.
    """

    run: str
    num_pictures: int
    rows: tuple[TranslationRow, ...]
    pictures: tuple[str, ...]


def sources_of(data: Path, num: int) -> Sources:
    """`num` held-out pictures at most, classes balanced and in order."""
    heldout = SampleShards(data, "heldout")
    asked = asked_of(data, min(num, len(heldout)))
    rows = rows_of(heldout, asked.labels)
    pictures = heldout.read(rows).x.permute(0, 2, 3, 1).contiguous().numpy()
    further = np.roll(np.arange(len(rows)), -(len(rows) // 2))
    target: Asked = asked.labels[further]
    if asked.prompts is not None:
        target = tuple(asked.prompts[place] for place in further)
    return Sources(pictures, asked.by_network, asked.labels, target, asked.labels[further])


@dataclass(frozen=True)
class Competitor:
    """Who translates, in words."""

    who: str
    translator: Translator


def compare(
    competitors: Sequence[Competitor],
    sources: Sources,
    weights: Sequence[float],
    seed: int,
    read: Read | None,
) -> tuple[tuple[TranslationRow, ...], dict[float, list[Column]]]:
    """Have everyone translate; the rows, and what became of the pictures by w.

    Args:
        competitors: the teacher first.
        sources: the pictures.
        weights: guidance weights of the way back.
        seed: of the noise of pictures that are drawn anew.
        read: the classifier, where there are classes.

    Raises:
        BundleError: one of them was not made for this.
    """
    rows: list[TranslationRow] = []
    columns: dict[float, list[Column]] = {w: [] for w in weights}
    for competitor in competitors:
        translator = competitor.translator
        noise = translator.encode(sources.pictures, sources.source)
        back = paired_rms(translator.decode(noise, sources.source, UNGUIDED), sources.pictures)
        fresh = RowRandom((seed,), 0, len(noise)).normal("z_1", *noise.shape[1:]).to(noise)
        for w in weights:
            translator.check(w)
            made = translator.decode(noise, sources.target, w)
            anew = translator.decode(fresh, sources.target, w)
            column = _column(competitor, made, w)
            columns[w].append(column)
            right = None if read is None else read(made) == sources.target_labels
            rows.append(
                TranslationRow(
                    who=competitor.who,
                    steps=translator.steps,
                    evaluations=column.evaluations,
                    w=w,
                    round_trip=back,
                    class_accuracy=None if right is None else float(right.mean()),
                    to_source=paired_rms(made, sources.pictures),
                    fresh_to_source=paired_rms(anew, sources.pictures),
                    to_teacher=paired_rms(made, columns[w][0].images),
                )
            )
    return tuple(sorted(rows, key=lambda row: weights.index(row.w))), columns


def _column(competitor: Competitor, made: Images, w: float) -> Column:
    return Column(
        title=f"{competitor.who}\n{competitor.translator.steps} + {competitor.translator.steps}",
        evaluations=competitor.translator.evaluations(w),
        images=made,
        student=competitor.translator.decoder.manifest.role == "student",
    )


def write_translation(
    report: TranslationReport,
    sources: Sources,
    columns: dict[float, list[Column]],
    class_names: Sequence[str],
    folder: Path,
) -> None:
    """Write `report.json`, `report.md` and a picture for each guidance weight into `folder`."""
    text = json.dumps(report.model_dump(mode="json"), indent=1, ensure_ascii=False)
    (folder / "report.json").write_text(text + "\n", encoding="utf-8")
    (folder / "report.md").write_text(_markdown(report), encoding="utf-8")
    given = Column("held-out\npictures", evaluations=0, images=sources.pictures, student=False)
    names = [f"{name} → {class_names[target]}" for name, target in _turns(sources, class_names)]
    for name, w in zip(report.pictures, columns, strict=True):
        title = f"{report.run}: one class made another, each row drawn from its source, w = {w:g}"
        draw_samples(title, [given, *columns[w]], sources.labels, names, folder / name)


def _turns(sources: Sources, class_names: Sequence[str]) -> list[tuple[str, int]]:
    """Each class and the class that most of its pictures become."""
    return [
        (name, int(np.bincount(sources.target_labels[sources.labels == label]).argmax()))
        for label, name in enumerate(class_names)
    ]


def picture_name(w: float) -> str:
    """Name of the picture at a guidance weight."""
    return f"stylize-w{w:g}.png"


def _markdown(report: TranslationReport) -> str:
    head = (
        "| w | who | steps each way | evaluations | round trip | became what it was to | to source "
        "| drawn anew, to source | to teacher |\n|--:|---|--:|--:|--:|--:|--:|--:|--:|\n"
    )
    lines = [
        f"| {row.w:g} | {row.who} | {row.steps} | {row.evaluations} | {row.round_trip:.3f} | "
        f"{'-' if row.class_accuracy is None else f'{row.class_accuracy:.1%}'} | "
        f"{row.to_source:.3f} | {row.fresh_to_source:.3f} | {row.to_teacher:.3f} |\n"
        for row in report.rows
    ]
    pictures = "".join(f"\n![{Path(name).stem}]({name})\n" for name in report.pictures)
    return (
        f"# {report.run}: from pictures to noise and back\n{pictures}\n"
        f"{report.num_pictures} held-out pictures, encoded unguided and drawn again. Differences "
        "are RMS, pixels in [-1, 1]: *round trip*, under the picture's own condition, unguided; "
        "*to source*, as another class; *drawn anew*, that class from other noise: what keeps "
        "nothing of the source. *To teacher*: to what the teacher makes of the same picture.\n\n"
        f"{head}{''.join(lines)}"
    )
