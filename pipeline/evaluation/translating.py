"""How well encoders do: pictures come back, and become pictures of another condition.

Held-out pictures are encoded unguided and drawn again under the same condition (the round trip),
and under that of another class at every guidance weight. What there is to compare with: the
teacher's own way there and back in many steps, and pictures drawn anew, which know nothing of their
source.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from pipeline.data.shards import SampleShards
from pipeline.documents import Document
from pipeline.evaluation.asking import asked_of, rows_of
from pipeline.evaluation.bootstrap import Bootstrap
from pipeline.evaluation.grids import Column, draw_samples
from pipeline.evaluation.protocol import RESAMPLES
from pipeline.evaluation.sampling import Images, LabelArray
from pipeline.evaluation.scores import Range
from pipeline.evaluation.scoring import named, rms_found
from pipeline.evaluation.tables import Line, plain_table
from pipeline.evaluation.translation import Asked, Sources

TEACHER = "teacher"

Read = Callable[[Images], LabelArray]
"""The classes that a classifier sees in pictures."""


class TranslationRow(Document):
    """One way there and back at one guidance weight; differences are RMS, pixels in [-1, 1].

    Whatever ends in `_interval` is the 95 % bootstrap interval of the number before it.

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
    round_trip_interval: Range
    class_accuracy: float | None = None
    class_accuracy_interval: Range | None = None
    to_source: float
    to_source_interval: Range
    fresh_to_source: float
    fresh_to_source_interval: Range
    to_teacher: float
    to_teacher_interval: Range


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
    """`num` held-out pictures at most, classes balanced and in order.

    Each is to become what the picture half the list further on is.
    """
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
class Turned:
    """What one way there and back made of the pictures.

    Attributes:
        who: encoder and decoder in words.
        steps: each way.
        evaluations: of networks for one picture, both ways, by guidance weight.
        back: the pictures drawn again as they were.
        made: what they became, by guidance weight.
        anew: what is drawn from other noise under the same condition, by guidance weight.
    """

    who: str
    steps: int
    evaluations: Mapping[float, int]
    back: Images
    made: Mapping[float, Images]
    anew: Mapping[float, Images]

    def column(self, w: float) -> Column:
        """What became of the pictures, for a grid."""
        title = f"{self.who}\n{self.steps} + {self.steps}"
        return Column(title, self.evaluations[w], self.made[w], student=self.who != TEACHER)


def compare(
    ways: Sequence[Turned], sources: Sources, seed: int, read: Read | None
) -> tuple[TranslationRow, ...]:
    """A row for each way and guidance weight, by w.

    Args:
        ways: the teacher's first.
        sources: the pictures.
        seed: of the bootstrap.
        read: the classifier, where there are classes.
    """
    bootstrap = Bootstrap(sources.labels, RESAMPLES, seed)
    backs = [rms_found(way.back, sources.pictures, bootstrap) for way in ways]
    rows = []
    for w in ways[0].made:
        for way, back in zip(ways, backs, strict=True):
            made = way.made[w]
            found = {
                "round_trip": back,
                "to_source": rms_found(made, sources.pictures, bootstrap),
                "fresh_to_source": rms_found(way.anew[w], sources.pictures, bootstrap),
                "to_teacher": rms_found(made, ways[0].made[w], bootstrap),
            }
            if read is not None:
                right = (read(made) == sources.target_labels).astype(np.float64)
                found["class_accuracy"] = bootstrap.mean(right, most=1.0)
            told = {"who": way.who, "steps": way.steps, "evaluations": way.evaluations[w], "w": w}
            rows.append(TranslationRow.model_validate({**told, **named(found)}))
    return tuple(rows)


def write_translation(
    report: TranslationReport,
    sources: Sources,
    ways: Sequence[Turned],
    class_names: Sequence[str],
    folder: Path,
) -> None:
    """Write `report.json`, `report.md` and the report's pictures into `folder`."""
    text = json.dumps(report.model_dump(mode="json"), indent=1, ensure_ascii=False)
    (folder / "report.json").write_text(text + "\n", encoding="utf-8")
    (folder / "report.md").write_text(_markdown(report), encoding="utf-8")
    given = Column("held-out\npictures", evaluations=0, images=sources.pictures, student=False)
    names = [f"{name} → {class_names[target]}" for name, target in _turns(sources, class_names)]
    for name, w in zip(report.pictures, ways[0].made, strict=False):  # no pictures of points
        title = f"{report.run}: one class made another, each row drawn from its source, w = {w:g}"
        columns = [given, *(way.column(w) for way in ways)]
        draw_samples(title, columns, sources.labels, names, folder / name)


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
    heads = {
        "round_trip": "round trip",
        "class_accuracy": "became what it was to",
        "to_source": "to source",
        "fresh_to_source": "drawn anew, to source",
        "to_teacher": "to teacher",
    }
    tables = []
    for w, rows in groupby(report.rows, key=lambda row: row.w):
        lines = [Line(_named(row), str(row.evaluations), row.model_dump()) for row in rows]
        tables.append(f"## w = {w:g}\n\n{plain_table(heads, lines)}")
    pictures = "".join(f"\n![{Path(name).stem}]({name})\n" for name in report.pictures)
    return (
        f"# {report.run}: from pictures to noise and back\n{pictures}\n"
        f"{report.num_pictures} held-out pictures, encoded unguided and drawn again. Differences "
        "are RMS, pixels in [-1, 1]: *round trip*, under the picture's own condition, unguided; "
        "*to source*, as another class; *drawn anew*, that class from other noise: what keeps "
        "nothing of the source. *To teacher*: to what the teacher makes of the same picture. In "
        "brackets 95 % bootstrap intervals over the pictures.\n\n" + "\n".join(tables)
    )


def _named(row: TranslationRow) -> str:
    return f"{row.who}, {row.steps} + {row.steps} steps"
