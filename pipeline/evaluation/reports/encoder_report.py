"""Report on encoders: round trips and translations of held-out images.

Held-out images are encoded unguided and decoded under the same condition (the round trip), and
under the condition of another class at every guidance weight. The references are the teacher's
round trip in many steps, and samples from other noise, which are unrelated to the source. If the
recipe configures edits, images are noised to a time t instead, and denoised from there.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Literal

import numpy as np

from pipeline.data.shards.reader import SampleShards
from pipeline.documents import Document
from pipeline.evaluation.documents import RESAMPLES, write_json
from pipeline.evaluation.figures.grids import Column, draw_prompts, draw_samples
from pipeline.evaluation.file_names import REPORT_JSON, REPORT_MARKDOWN
from pipeline.evaluation.metrics.bootstrap import Bootstrap
from pipeline.evaluation.scores import Range
from pipeline.evaluation.scoring import flatten_estimates, rms_estimate
from pipeline.evaluation.tables import TableLine, headed_table
from pipeline.sampling.conditions import Conditions as PromptsAsked
from pipeline.sampling.conditions import choose_conditions, heldout_rows
from pipeline.sampling.ddim_inversion import LabelsOrPrompts, TranslationInputs
from pipeline.sampling.sampler import Images, LabelArray, channels_last

TEACHER = "teacher"

COLUMN_HEADINGS = {
    "round_trip": "round trip",
    "class_accuracy": "target class accuracy",
    "to_source": "to source",
    "fresh_to_source": "new sample, to source",
    "to_teacher": "to teacher",
}
"""Column headings, by field of a row."""

EDITS_NOTE = (
    "Edits at a time t are not encoded: the image is noised to t and denoised from there as the "
    "target class. The teacher's edit starts from the same t and noise. The new sample starts from "
    "that noise alone, which equals the edit at t = 1, where nothing remains of the source."
)
"""Explanation of the edit rows."""

Classify = Callable[[Images], LabelArray]
"""Predicts the classes of images."""

PictureKind = Literal["stylize", "edits"]

_PICTURES: Mapping[PictureKind, str] = {
    "stylize": "translation to another class",
    "edits": "edit to another class",
}
"""Title of each figure."""


class TranslationRow(Document):
    """Scores of one encoder-decoder pair, or of one edit, at one guidance weight.

    Differences are RMS, pixels in [-1, 1]. A field ending in `_interval` is the 95 % bootstrap
    interval of the field before it.

    Attributes:
        who: description of encoder and decoder, or of the editing network.
        steps: steps in each direction; for an edit, the steps of its grid.
        taken: steps that an edit takes of these; None for encoders.
        evaluations: network evaluations per image, both directions.
        w: guidance weight of the decoder.
        round_trip: difference of an image to its unguided reconstruction under its own condition;
            None for an edit.
        class_accuracy: share of results classified as the target class; None without classes.
        to_source: difference of the result to its source image.
        fresh_to_source: difference to the source of a sample from other noise, same condition.
        to_teacher: difference of the result to the teacher's result.
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
    """Result of the evaluation of encoders. Content only: no times, dates or absolute paths.

    Attributes:
        run: name of the recipe.
        num_pictures: number of translated held-out images.
        rows: by w; encoders, then edits by time; the teacher's row is the first of each.
        pictures: names of the figure files beside the report.
    """

    run: str
    num_pictures: int
    rows: tuple[TranslationRow, ...]
    pictures: tuple[str, ...]


def sources_of(data: Path, num: int) -> TranslationInputs:
    """Select up to `num` held-out images, classes balanced and in order, and their targets.

    The target condition of an image is that of the image half the list further on.
    """
    heldout = SampleShards(data, "heldout")
    conditions = choose_conditions(data, min(num, len(heldout)), is_balanced=True)
    rows = heldout_rows(heldout, conditions.labels)
    pictures = channels_last(heldout.read(rows).x)
    shifted = np.roll(np.arange(len(rows)), -(len(rows) // 2))
    target: LabelsOrPrompts = conditions.labels[shifted]
    if conditions.prompts is not None:
        target = tuple(conditions.prompts[place] for place in shifted)
    return TranslationInputs(
        pictures, conditions.network_inputs, conditions.labels, target, conditions.labels[shifted]
    )


@dataclass(frozen=True)
class RoundTrip:
    """Images made by one encoder-decoder pair, or by one edit.

    Attributes:
        who: description of encoder and decoder, or of the editing network.
        steps: steps in each direction; for an edit, the steps of its grid.
        evaluations: network evaluations per image, both directions, by guidance weight.
        back: reconstructions of the images; None for an edit.
        made: translated images, by guidance weight.
        fresh: samples from other noise under the target condition, by guidance weight.
        taken: steps that an edit takes; None for encoders.
    """

    who: str
    steps: int
    evaluations: Mapping[float, int]
    back: Images | None
    made: Mapping[float, Images]
    fresh: Mapping[float, Images]
    taken: int | None = None

    @property
    def time(self) -> float | None:
        """Start time of an edit, in (0, 1]; None for encoders."""
        return None if self.taken is None else self.taken / self.steps

    @property
    def picture(self) -> PictureKind:
        """Kind of the report's figure that shows it."""
        return "stylize" if self.taken is None else "edits"

    def column(self, w: float) -> Column:
        """Return the translated images as a column of a grid."""
        title = f"{self.who}\n{self.steps} + {self.steps}"
        if self.taken is not None:
            title = f"{self.who} at {self.time:g}\n{self.taken} of {self.steps}"
        return Column(title, self.evaluations[w], self.made[w], student=self.who != TEACHER)


def score_round_trips(
    ways: Sequence[RoundTrip], sources: TranslationInputs, seed: int, read: Classify | None
) -> tuple[TranslationRow, ...]:
    """Compute a row for each entry of `ways` and guidance weight, by w.

    Args:
        ways: results of encoders and edits; the teacher's is the first of the encoders and of the
            edits at each time.
        sources: source images and targets.
        seed: seed of the bootstrap.
        read: classifier; None without classes.
    """
    bootstrap = Bootstrap(sources.labels, RESAMPLES, seed)
    teachers = {way.time: way for way in ways if way.who == TEACHER}
    backs = [
        {}
        if way.back is None
        else {"round_trip": rms_estimate(way.back, sources.pictures, bootstrap)}
        for way in ways
    ]
    rows = []
    for w in ways[0].made:
        for way, back in zip(ways, backs, strict=True):
            made = way.made[w]
            found = {
                **back,
                "to_source": rms_estimate(made, sources.pictures, bootstrap),
                "fresh_to_source": rms_estimate(way.fresh[w], sources.pictures, bootstrap),
                "to_teacher": rms_estimate(made, teachers[way.time].made[w], bootstrap),
            }
            if read is not None:
                found["class_accuracy"] = bootstrap.share(read(made) == sources.target_labels)
            fields = {"who": way.who, "steps": way.steps, "taken": way.taken, "w": w}
            fields["evaluations"] = way.evaluations[w]
            rows.append(TranslationRow.model_validate({**fields, **flatten_estimates(found)}))
    return tuple(rows)


def write_translation(
    report: TranslationReport,
    sources: TranslationInputs,
    ways: Sequence[RoundTrip],
    class_names: Sequence[str],
    folder: Path,
) -> None:
    """Write `report.json`, `report.md` and the figures into `folder`."""
    write_json(report, folder)
    (folder / REPORT_MARKDOWN).write_text(_markdown(report), encoding="utf-8")
    given = Column("held-out\nimages", evaluations=0, images=sources.pictures, student=False)
    for kind, subject in _PICTURES.items():
        shown = [way for way in ways if way.picture == kind]
        for w in ways[0].made:
            name = picture_name(w, kind)
            if name in report.pictures:  # 2D points have no figure
                title = f"{report.run}: {subject}, w = {w:g}"
                columns = [given, *(way.column(w) for way in shown)]
                _draw(title, columns, sources, class_names, folder / name)


def _draw(
    title: str,
    columns: Sequence[Column],
    sources: TranslationInputs,
    class_names: Sequence[str],
    path: Path,
) -> None:
    """Draw a grid with classes and their targets as rows, or target prompts without classes."""
    if isinstance(sources.target, tuple) and not class_names:
        draw_prompts(title, columns, PromptsAsked(sources.labels, sources.target), path)
        return
    targets = _main_targets(sources, class_names)
    names = [f"{name} → {class_names[target]}" for name, target in targets]
    draw_samples(title, columns, sources.labels, names, path)


def _main_targets(sources: TranslationInputs, class_names: Sequence[str]) -> list[tuple[str, int]]:
    """Return each class with its most frequent target class."""
    return [
        (name, int(np.bincount(sources.target_labels[sources.labels == label]).argmax()))
        for label, name in enumerate(class_names)
    ]


def picture_name(w: float, kind: PictureKind = "stylize") -> str:
    """Return the file name of the figure at a guidance weight."""
    return f"{kind}-w{w:g}.png"


def _markdown(report: TranslationReport) -> str:
    tables = []
    for w, rows in groupby(report.rows, key=lambda row: row.w):
        table = headed_table(COLUMN_HEADINGS, [line_of(row) for row in rows], w)
        tables.append(f"## w = {w:g}\n\n{table.markdown}")
    edits = f"{EDITS_NOTE}\n\n" if any(row.taken for row in report.rows) else ""
    pictures = "".join(f"\n![{Path(name).stem}]({name})\n" for name in report.pictures)
    return (
        f"# {report.run}: encoding and translation of images\n{pictures}\n"
        f"{report.num_pictures} held-out images, encoded unguided and decoded. Differences are "
        "RMS, pixels in [-1, 1]. *Round trip*: reconstruction under the image's own condition, "
        "unguided. *To source*: translation to another class vs. the source. *New sample, to "
        "source*: a sample of that class from other noise, unrelated to the source. *To teacher*: "
        "vs. the teacher's translation of the same image. 95 % bootstrap intervals over the "
        "images in parentheses.\n\n" + edits + "\n".join(tables)
    )


def line_of(row: TranslationRow) -> TableLine:
    """Convert a row to a line of a table."""
    title = f"{row.who}, {row.steps} + {row.steps} steps"
    if row.taken is not None:
        title = f"{row.who}, edit at {row.taken / row.steps:g}, {row.taken} of {row.steps} steps"
    return TableLine(title, str(row.evaluations), row.model_dump())


def read_translation(folder: Path) -> TranslationReport:
    """Load the `report.json` of a folder."""
    text = (folder / REPORT_JSON).read_text(encoding="utf-8")
    return TranslationReport.model_validate_json(text)
