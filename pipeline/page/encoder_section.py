"""Encoder section of the page: round trips and translations of images."""

from collections.abc import Sequence

import plotly.graph_objects as go

from pipeline.evaluation.figures.curves import STUDENT
from pipeline.evaluation.reports.encoder_report import (
    COLUMN_HEADINGS,
    EDITS_NOTE,
    TEACHER,
    TranslationReport,
    TranslationRow,
    line_of,
)
from pipeline.evaluation.tables import format_cell, headed_table, value_of
from pipeline.page.charts import GREY, INK, Style, add_marks, as_json
from pipeline.page.view_model import Chart, Encoders

_STUDENTS = Style(STUDENT, "circle", 3)
_TEACHER = Style(INK, "star", 0, size=13)
_FRESH = Style(GREY, "x", 0)

_NOTE = (
    "Held-out images, encoded unguided and decoded. Differences are RMS, pixels in [-1, 1]. Round "
    "trip: reconstruction under the image's own condition, unguided. To source: translation to "
    "another class vs. the source. New sample, to source: a sample of that class from other noise, "
    "unrelated to the source. Parentheses and bars are 95 % bootstrap intervals over the images."
)


def encoders_of(report: TranslationReport, pictures: Sequence[tuple[float, str]]) -> Encoders:
    """Build the section from the report; `pictures` are its figures, by guidance weight."""
    weights = dict.fromkeys(row.w for row in report.rows)
    both_ways = _both_ways(report)
    charts = [_chart("round-trip", "Round trip: RMS to the source image", both_ways)]
    for w in weights:
        rows = [row for row in both_ways if row.w == w]
        if any(row.class_accuracy is not None for row in rows):
            charts.append(_chart("became", "Accuracy of the target class", rows, w))
        charts.append(_chart("kept", "RMS of the translation to its source", rows, w))
    return Encoders(
        summary=_summary(report),
        charts=tuple(charts),
        tables=tuple(
            headed_table(COLUMN_HEADINGS, [line_of(r) for r in report.rows if r.w == w], w)
            for w in weights
        ),
        pictures=tuple(pictures),
        note=_NOTE if len(both_ways) == len(report.rows) else f"{_NOTE} {EDITS_NOTE}",
    )


def _both_ways(report: TranslationReport) -> list[TranslationRow]:
    """Return the rows of encoders, without edits."""
    return [row for row in report.rows if row.taken is None]


def _summary(report: TranslationReport) -> str:
    """Summarise the encoder with the fewest steps, next to the teacher."""
    first = report.rows[0].w  # the round trip is unguided, so it is the same at every w
    rows = [row for row in _both_ways(report) if row.w == first]
    fewest = min(rows, key=lambda row: row.steps)
    teachers = (row for row in rows if row.who == TEACHER)
    references = [f"{_number(row)} for the teacher with {_steps(row)}" for row in teachers]
    return (
        f"RMS of the round trip with {_steps(fewest)}: {_number(fewest)}"
        f"{''.join(f'; {each}' for each in references)}. {report.num_pictures} held-out images."
    )


def _steps(row: TranslationRow) -> str:
    return f"{row.steps} + {row.steps} steps"


def _number(row: TranslationRow) -> str:
    return format_cell(row.model_dump(), "round_trip")


_KEYS = {"round-trip": "round_trip", "became": "class_accuracy", "kept": "to_source"}


def _chart(name: str, title: str, rows: Sequence[TranslationRow], w: float | None = None) -> Chart:
    """Plot a metric against steps per direction; the round trip is the same at every w."""
    key = _KEYS[name]
    first = rows[0].w if w is None else w
    at_w = [row for row in rows if row.w == first]
    students = [row for row in at_w if row.who != TEACHER]
    figure = go.Figure()
    _add(figure, students, key, "students", _STUDENTS)
    _add(figure, [row for row in at_w if row.who == TEACHER], key, "teacher", _TEACHER)
    if key == "to_source":
        _add(figure, students, "fresh_to_source", "new sample", _FRESH)
    steps = sorted({row.steps for row in at_w})
    figure.update_xaxes(type="log", title="steps per direction", tickvals=steps)
    figure.update_yaxes(title=COLUMN_HEADINGS[key], rangemode="tozero")
    at_weight = "" if w is None else f", w = {w:g}"
    suffix = "" if w is None else f"-{w:g}"
    return Chart(f"{name}{suffix}", w, f"{title}{at_weight}", as_json(figure), "encoders")


def _add(
    figure: go.Figure, rows: Sequence[TranslationRow], key: str, name: str, style: Style
) -> None:
    """Add a line of a metric, for the rows that have it."""
    marks = [(row.steps, value_of(row.model_dump(), key), row.who) for row in rows]
    add_marks(figure, marks, name, style, "steps per direction")
