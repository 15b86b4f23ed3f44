"""How well encoders do: pictures come back, and become pictures of another condition.

Held-out pictures are encoded unguided and drawn again under the same condition (the round trip),
and under that of another class at every guidance weight. What there is to compare with: the
teacher's own way there and back in many steps, and pictures drawn anew, which know nothing of their
source. Where a recipe asks for edits, pictures are noised part of the way instead, and redrawn.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Literal

import numpy as np

from pipeline.data.shards.reader import SampleShards
from pipeline.documents import Document
from pipeline.evaluation.documents import RESAMPLES
from pipeline.evaluation.figures.grids import Column, draw_prompts, draw_samples
from pipeline.evaluation.metrics.bootstrap import Bootstrap
from pipeline.evaluation.scores import Range
from pipeline.evaluation.scoring import named, rms_found
from pipeline.evaluation.tables import Line, plain_table
from pipeline.sampling.conditions import Asked as PromptsAsked
from pipeline.sampling.conditions import asked_of, rows_of
from pipeline.sampling.ddim_inversion import Asked, Sources
from pipeline.sampling.sampler import Images, LabelArray

TEACHER = "teacher"

HEADS = {
    "round_trip": "round trip",
    "class_accuracy": "became what it was to",
    "to_source": "to source",
    "fresh_to_source": "drawn anew, to source",
    "to_teacher": "to teacher",
}
"""Of the columns, by number of a row."""

EDITS = (
    "Edited at a time t, the picture was not encoded but noised to t and redrawn from there as the "
    "other class. The teacher's edit that it is compared with is from the same t and noise, and "
    "what is drawn anew is from that noise alone: the same at t = 1, where nothing is left of the "
    "source."
)
"""What the rows of edits are."""

Read = Callable[[Images], LabelArray]
"""The classes that a classifier sees in pictures."""

PictureKind = Literal["stylize", "edits"]

_PICTURES: Mapping[PictureKind, str] = {
    "stylize": "one class made another, each row drawn from its source",
    "edits": "one class made another, each row noised to a time t and redrawn",
}
"""What each picture shows."""


class TranslationRow(Document):
    """One way there and back, or edit, at one guidance weight.

    Differences are RMS, pixels in [-1, 1].

    Whatever ends in `_interval` is the 95 % bootstrap interval of the number before it.

    Attributes:
        who: encoder and decoder, or who edits, in words.
        steps: each way; of the grid for an edit.
        taken: of these, by an edit; None there and back.
        evaluations: of the network for one picture, both ways.
        w: guidance weight of the way back.
        round_trip: the picture against itself, drawn again under its own condition, unguided; None
            for an edit.
        class_accuracy: share of pictures taken for what they were to become; None without classes.
        to_source: the picture against what became of it.
        fresh_to_source: the picture against one drawn from other noise under the same condition.
        to_teacher: what became of it against what the teacher makes of it.
    """

    who: str
    steps: int
    taken: int | None = None
    evaluations: int
    w: float
    round_trip: float | None = None
    round_trip_interval: Range | None = None
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
        rows: by w, there and back before edits, which are by time; the teacher's first of each.
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
    """What one way there and back, or one edit, made of the pictures.

    Attributes:
        who: encoder and decoder, or who edits, in words.
        steps: each way; of the grid for an edit.
        evaluations: of networks for one picture, both ways, by guidance weight.
        back: the pictures drawn again as they were; None for an edit.
        made: what they became, by guidance weight.
        anew: what is drawn from noise alone under the same condition, by guidance weight.
        taken: of the steps, by an edit; None there and back.
    """

    who: str
    steps: int
    evaluations: Mapping[float, int]
    back: Images | None
    made: Mapping[float, Images]
    anew: Mapping[float, Images]
    taken: int | None = None

    @property
    def time(self) -> float | None:
        """Where an edit starts, in (0, 1]; None there and back."""
        return None if self.taken is None else self.taken / self.steps

    @property
    def picture(self) -> PictureKind:
        """Which of the report's pictures shows it."""
        return "stylize" if self.taken is None else "edits"

    def column(self, w: float) -> Column:
        """What became of the pictures, for a grid."""
        title = f"{self.who}\n{self.steps} + {self.steps}"
        if self.taken is not None:
            title = f"{self.who} at {self.time:g}\n{self.taken} of {self.steps}"
        return Column(title, self.evaluations[w], self.made[w], student=self.who != TEACHER)


def compare(
    ways: Sequence[Turned], sources: Sources, seed: int, read: Read | None
) -> tuple[TranslationRow, ...]:
    """A row for each way and guidance weight, by w.

    Args:
        ways: the teacher's first, of those there and back and of the edits at each time.
        sources: the pictures.
        seed: of the bootstrap.
        read: the classifier, where there are classes.
    """
    bootstrap = Bootstrap(sources.labels, RESAMPLES, seed)
    teachers = {way.time: way for way in ways if way.who == TEACHER}
    backs = [
        {} if way.back is None else {"round_trip": rms_found(way.back, sources.pictures, bootstrap)}
        for way in ways
    ]
    rows = []
    for w in ways[0].made:
        for way, back in zip(ways, backs, strict=True):
            made = way.made[w]
            found = {
                **back,
                "to_source": rms_found(made, sources.pictures, bootstrap),
                "fresh_to_source": rms_found(way.anew[w], sources.pictures, bootstrap),
                "to_teacher": rms_found(made, teachers[way.time].made[w], bootstrap),
            }
            if read is not None:
                right = (read(made) == sources.target_labels).astype(np.float64)
                found["class_accuracy"] = bootstrap.mean(right, most=1.0)
            told = {"who": way.who, "steps": way.steps, "taken": way.taken, "w": w}
            told["evaluations"] = way.evaluations[w]
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
    for kind, told in _PICTURES.items():
        shown = [way for way in ways if way.picture == kind]
        for w in ways[0].made:
            name = picture_name(w, kind)
            if name in report.pictures:  # none of points
                title = f"{report.run}: {told}, w = {w:g}"
                columns = [given, *(way.column(w) for way in shown)]
                _draw(title, columns, sources, class_names, folder / name)


def _draw(
    title: str,
    columns: Sequence[Column],
    sources: Sources,
    class_names: Sequence[str],
    path: Path,
) -> None:
    """Rows are classes and what they become; without classes, the prompts of what is drawn."""
    if isinstance(sources.target, tuple) and not class_names:
        draw_prompts(title, columns, PromptsAsked(sources.labels, sources.target), path)
        return
    names = [f"{name} → {class_names[target]}" for name, target in _turns(sources, class_names)]
    draw_samples(title, columns, sources.labels, names, path)


def _turns(sources: Sources, class_names: Sequence[str]) -> list[tuple[str, int]]:
    """Each class and the class that most of its pictures become."""
    return [
        (name, int(np.bincount(sources.target_labels[sources.labels == label]).argmax()))
        for label, name in enumerate(class_names)
    ]


def picture_name(w: float, kind: PictureKind = "stylize") -> str:
    """Name of the picture at a guidance weight."""
    return f"{kind}-w{w:g}.png"


def _markdown(report: TranslationReport) -> str:
    tables = []
    for w, rows in groupby(report.rows, key=lambda row: row.w):
        lines = [line_of(row) for row in rows]
        tables.append(f"## w = {w:g}\n\n{plain_table(HEADS, lines)}")
    edits = f"{EDITS}\n\n" if any(row.taken for row in report.rows) else ""
    pictures = "".join(f"\n![{Path(name).stem}]({name})\n" for name in report.pictures)
    return (
        f"# {report.run}: from pictures to noise and back\n{pictures}\n"
        f"{report.num_pictures} held-out pictures, encoded unguided and drawn again. Differences "
        "are RMS, pixels in [-1, 1]: *round trip*, under the picture's own condition, unguided; "
        "*to source*, as another class; *drawn anew*, that class from other noise: what keeps "
        "nothing of the source. *To teacher*: to what the teacher makes of the same picture. In "
        "brackets 95 % bootstrap intervals over the pictures.\n\n" + edits + "\n".join(tables)
    )


def line_of(row: TranslationRow) -> Line:
    """A row as a line of a table."""
    title = f"{row.who}, {row.steps} + {row.steps} steps"
    if row.taken is not None:
        title = f"{row.who}, edit at {row.taken / row.steps:g}, {row.taken} of {row.steps} steps"
    return Line(title, str(row.evaluations), row.model_dump())


def read_translation(folder: Path) -> TranslationReport:
    """Read the `report.json` of a folder."""
    text = (folder / "report.json").read_text(encoding="utf-8")
    return TranslationReport.model_validate_json(text)
