"""Curves of two runs in one chart, where their numbers were made in the same way."""

from dataclasses import replace

import plotly.graph_objects as go

from pipeline.evaluation.figures import STUDENT
from pipeline.page.charts import as_json
from pipeline.page.comparison import Side, comparable
from pipeline.page.content import Chart
from pipeline.page.curves import Style, add_rows, curve_charts, main_number, name_axes

_COLOURS = (STUDENT, "#3f8fd2")


def overlaid(sides: tuple[Side, Side]) -> tuple[Chart, ...]:
    """Quality against network evaluations by guidance weight: students and teachers of both.

    Where the numbers do not compare, each run has a chart of its own.
    """
    if comparable(sides[0].report, sides[1].report):
        weights = dict.fromkeys(row.cell.w for side in sides for row in side.report.rows)
        return tuple(_over(sides, w) for w in sorted(weights))
    return tuple(
        replace(chart, name=f"{chart.name}-{place}", title=f"{side.label}: {chart.title}")
        for place, side in enumerate(sides)
        for chart in curve_charts(side.report)
    )


def _over(sides: tuple[Side, Side], w: float) -> Chart:
    figure = go.Figure()
    measured = main_number(sides[0].report)
    for side, colour in zip(sides, _COLOURS, strict=True):
        rows = [row for row in side.report.rows if row.cell.w == w]
        students = [row for row in rows if row.cell.role == "student"]
        teachers = [row for row in rows if row.cell.role == "teacher"]
        add_rows(figure, students, measured, f"{side.label}, students", Style(colour, "circle", 3))
        star = Style(colour, "star", 0, size=13)
        add_rows(figure, teachers, measured, f"{side.label}, teacher", star)
    name_axes(figure, measured)
    return Chart(f"curve-{w:g}", w, f"Quality against cost, w = {w:g}", as_json(figure))
