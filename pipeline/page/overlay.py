"""Curves of two runs in one chart, where their numbers were made in the same way."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import plotly.graph_objects as go

from pipeline.evaluation.documents import Report
from pipeline.evaluation.figures.curves import STUDENT, Point
from pipeline.evaluation.scores import Scores
from pipeline.page.charts import spans_of, trade_charts
from pipeline.page.comparison import Pair, Side, is_shared
from pipeline.page.quality_curves import (
    STUDENT_STYLES,
    Curves,
    Style,
    add_rows,
    charts_of,
    curves_of,
    ladders,
    name_axes,
)
from pipeline.page.view_model import Chart, ChartKind, Encoders

_COLOURS = (STUDENT, "#3f8fd2")


def overlaid(sides: tuple[Side, Side]) -> tuple[Chart, ...]:
    """Quality against network evaluations by guidance weight: students and teachers of both.

    Where numbers do not compare, or one run lacks them, each run has a chart of its own.
    """
    return tuple(_overlaid(sides))


def _overlaid(sides: tuple[Side, Side]) -> Iterator[Chart]:
    curves = [{each.key: each for each in curves_of(side.report)} for side in sides]
    for key in dict.fromkeys([*curves[0], *curves[1]]):
        if is_shared(sides, key):
            yield from _over(sides, (curves[0][key], curves[1][key]))
            continue
        for place, (side, its) in enumerate(zip(sides, curves, strict=True)):
            if key in its:
                yield from (_named(chart, side, place) for chart in charts_of(its[key]))


def beside(sides: tuple[Side, Side]) -> tuple[Pair, ...]:
    """What stands in a chart of each run's own, beside the other's: trade-offs and training.

    Axes of trade-offs are those of both where their numbers were made in the same way.
    """
    trades = _trades(sides)
    by_title = [
        {chart.title: chart for chart in (*its, *_of_kind(side, "training"))}
        for side, its in zip(sides, trades, strict=True)
    ]
    titles = dict.fromkeys([*by_title[0], *by_title[1]])
    return tuple(
        (
            title,
            tuple(
                _named(charts[title], side, place)
                for place, (side, charts) in enumerate(zip(sides, by_title, strict=True))
                if title in charts
            ),
        )
        for title in titles
    )


def _trades(sides: tuple[Side, Side]) -> list[list[Chart]]:
    reports = [side.report for side in sides if isinstance(side.report, Report)]
    if len(reports) < len(sides):
        return [_of_kind(side, "trade") for side in sides]
    apart = {key for key in Scores.model_fields if not is_shared(sides, key)}
    spans = {key: span for key, span in spans_of(reports).items() if key not in apart}
    return [trade_charts(report, spans) for report in reports]


def _of_kind(side: Side, kind: ChartKind) -> list[Chart]:
    return [chart for chart in side.page.charts if chart.kind == kind]


def encoders_beside(sides: tuple[Side, Side]) -> tuple[tuple[int, Encoders], ...]:
    """What the encoders of each run do, by the place of the run; nothing of one that has none."""
    return tuple(
        (place, replace(its, charts=tuple(_named(chart, side, place) for chart in its.charts)))
        for place, side in enumerate(sides)
        if (its := side.page.encoders)
    )


def _named(chart: Chart, side: Side, place: int) -> Chart:
    return replace(chart, name=f"{chart.name}-{place}", title=f"{side.label}: {chart.title}")


def _over(sides: tuple[Side, Side], curves: tuple[Curves, Curves]) -> Iterator[Chart]:
    rows = [each.by_weight for each in curves]
    for w in sorted({*rows[0], *rows[1]}):
        yield curves[0].chart(w, _figure(sides, curves[0], [each.get(w, []) for each in rows]))


def _figure(sides: tuple[Side, Side], curves: Curves, rows: Sequence[Sequence[Point]]) -> go.Figure:
    """Both runs' rows at one guidance weight."""
    figure = go.Figure()
    for side, colour, its in zip(sides, _COLOURS, rows, strict=True):
        students = [row for row in its if row.cell.role == "student"]
        teachers = [row for row in its if row.cell.role == "teacher"]
        for name, ladder in ladders(students).items():
            style = replace(STUDENT_STYLES[name], color=colour)
            add_rows(figure, ladder, curves.measured, f"{side.label}, {name}", style)
        star = Style(colour, "star", 0, size=13)
        add_rows(figure, teachers, curves.measured, f"{side.label}, teacher", star)
    name_axes(figure, curves.measured)
    return figure
