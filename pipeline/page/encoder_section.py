"""The encoders' report on a page: what comes back from noise, and what becomes of pictures."""

from collections.abc import Sequence

import plotly.graph_objects as go

from pipeline.evaluation.figures.curves import STUDENT
from pipeline.evaluation.reports.encoder_report import (
    EDITS,
    HEADS,
    TEACHER,
    TranslationReport,
    TranslationRow,
    line_of,
)
from pipeline.evaluation.tables import cell, value_of
from pipeline.page.charts import INK, as_json
from pipeline.page.quality_curves import Style, add_marks
from pipeline.page.view_model import Chart, Encoders, Table

_ANEW = "#8a919c"
_STUDENTS = Style(STUDENT, "circle", 3)
_TEACHER = Style(INK, "star", 0, size=13)
_FRESH = Style(_ANEW, "x", 0)

_NOTE = (
    "Held-out pictures, encoded unguided and drawn again. Differences are RMS, pixels in [-1, 1]: "
    "the round trip under the picture's own condition, unguided; to source, as another class; "
    "drawn anew, that class from other noise, which keeps nothing of the source. In brackets and "
    "bars, 95 % bootstrap intervals over the pictures."
)


def encoders_of(report: TranslationReport, pictures: Sequence[tuple[float, str]]) -> Encoders:
    """What a page shows of them; `pictures` are the report's own, by guidance weight."""
    weights = dict.fromkeys(row.w for row in report.rows)
    both_ways = _both_ways(report)
    charts = [_chart("round-trip", "The way back: RMS to the picture itself", both_ways)]
    for w in weights:
        rows = [row for row in both_ways if row.w == w]
        if any(row.class_accuracy is not None for row in rows):
            charts.append(_chart("became", "Taken for what it was to become", rows, w))
        charts.append(_chart("kept", "How far from its source", rows, w))
    return Encoders(
        told=_told(report),
        charts=tuple(charts),
        tables=tuple(_table(report, w) for w in weights),
        pictures=tuple(pictures),
        note=_NOTE if len(both_ways) == len(report.rows) else f"{_NOTE} {EDITS}",
    )


def _both_ways(report: TranslationReport) -> list[TranslationRow]:
    """The rows of what goes there and back."""
    return [row for row in report.rows if row.taken is None]


def _told(report: TranslationReport) -> str:
    """The way of the fewest steps, beside the teacher's."""
    first = report.rows[0].w  # the way back is unguided: the same at every w
    rows = [row for row in _both_ways(report) if row.w == first]
    fewest = min(rows, key=lambda row: row.steps)
    teachers = (row for row in rows if row.who == TEACHER)
    against = [f"the teacher's in {_steps(row)} with {_number(row)}" for row in teachers]
    return (
        f"In {_steps(fewest)}, a picture comes back from noise with an RMS of {_number(fewest)}"
        f"{''.join(f', {each}' for each in against)}; {report.num_pictures} held-out pictures."
    )


def _steps(row: TranslationRow) -> str:
    return f"{row.steps} + {row.steps} steps"


def _number(row: TranslationRow) -> str:
    return cell(row.model_dump(), "round_trip")


_KEYS = {"round-trip": "round_trip", "became": "class_accuracy", "kept": "to_source"}


def _chart(name: str, title: str, rows: Sequence[TranslationRow], w: float | None = None) -> Chart:
    """A number against steps each way; the round trip is the same at every w."""
    key = _KEYS[name]
    first = rows[0].w if w is None else w
    at_w = [row for row in rows if row.w == first]
    students = [row for row in at_w if row.who != TEACHER]
    figure = go.Figure()
    _add(figure, students, key, "students", _STUDENTS)
    _add(figure, [row for row in at_w if row.who == TEACHER], key, "teacher", _TEACHER)
    if key == "to_source":
        _add(figure, students, "fresh_to_source", "drawn anew", _FRESH)
    steps = sorted({row.steps for row in at_w})
    figure.update_xaxes(type="log", title="steps each way", tickvals=steps)
    figure.update_yaxes(title=HEADS[key], rangemode="tozero")
    where = "" if w is None else f", w = {w:g}"
    place = "" if w is None else f"-{w:g}"
    return Chart(f"{name}{place}", w, f"{title}{where}", as_json(figure), "encoders")


def _add(
    figure: go.Figure, rows: Sequence[TranslationRow], key: str, name: str, style: Style
) -> None:
    """A number of rows, those that have it."""
    found = [(row.steps, value_of(row.model_dump(), key), row.who) for row in rows]
    marks = [(steps, value, who) for steps, value, who in found if value is not None]
    add_marks(figure, marks, name, style, "steps each way")


def _table(report: TranslationReport, w: float) -> Table:
    lines = [line_of(row) for row in report.rows if row.w == w]
    keys = [key for key in HEADS if any(value_of(line.scores, key) for line in lines)]
    cells = [
        (0, line.title, line.evaluations, tuple(cell(line.scores, key) for key in keys))
        for line in lines
    ]
    return Table(w, "", tuple(HEADS[key] for key in keys), tuple(cells))
