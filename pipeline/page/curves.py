"""Charts for a browser: the quality of students against what a sample of theirs costs."""

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from pipeline.evaluation.agreement import AgreementReport
from pipeline.evaluation.agreement_figure import PANEL_SHOWN
from pipeline.evaluation.figures import STUDENT, Point
from pipeline.evaluation.protocol import SAMPLER_NAMES, Panel, Report
from pipeline.page.charts import INK, as_json
from pipeline.page.content import Chart

_GREY = "#8a919c"

Value = tuple[float, tuple[float, float] | None]


@dataclass(frozen=True)
class Measured:
    """A number that rows have.

    Attributes:
        key: of it in their scores; its 95 % interval is `<key>_interval`.
        name: of the axis.
        by_factors: whether the axis is logarithmic.
    """

    key: str
    name: str
    by_factors: bool = True

    def of(self, row: Point) -> Value | None:
        """The number of a row and its interval; None if it was not measured."""
        value = getattr(row.scores, self.key)
        return None if value is None else (value, getattr(row.scores, f"{self.key}_interval"))


@dataclass(frozen=True)
class Style:
    """How rows are drawn; without a width they are points and no line."""

    color: str
    mark: str
    width: int
    size: int = 9


_SAMPLERS = {
    "ddim": Style(_GREY, "square", 2),
    "dpm++": Style("#2a6fb0", "triangle-up", 2),
    "unipc": Style("#3a8f5c", "diamond", 2),
}


def curve_charts(report: Report | AgreementReport) -> list[Chart]:
    """Quality against network evaluations, one chart for each guidance weight."""
    measured = main_number(report)
    return [
        Chart(f"curve-{w:g}", w, f"Quality against cost, w = {w:g}", _curve(rows, measured))
        for w, rows in _by_weight(report.rows).items()
    ]


def panel_charts(panel: Panel) -> list[Chart]:
    """The same in the features of another extractor, a chart for each of its main numbers."""
    heads = {metric.metric: metric.title for metric in panel.metrics}
    charts = []
    for key in (key for key in PANEL_SHOWN if key in heads):
        measured = Measured(key, heads[key], by_factors=key != "clip_score")
        for w, rows in _by_weight(panel.rows).items():
            title = f"In the features of {panel.extractor}: {heads[key]}, w = {w:g}"
            charts.append(Chart(f"{panel.kind}-{key}-{w:g}", w, title, _curve(rows, measured)))
    return charts


def main_number(report: Report | AgreementReport) -> Measured:
    """What a report is about."""
    if isinstance(report, Report):
        return Measured("distance_to_real", "Fréchet distance to real images")
    return Measured("rms_to_teacher", "RMS to the teacher's sample")


def _by_weight(rows: Sequence[Point]) -> dict[float, list[Point]]:
    found: dict[float, list[Point]] = {}
    for row in rows:
        found.setdefault(row.cell.w, []).append(row)
    return found


def _curve(rows: Sequence[Point], measured: Measured) -> str:
    figure = go.Figure()
    students = [row for row in rows if row.cell.role == "student"]
    plain = [row for row in students if row.cell.sampler != "stochastic"]
    noisy = [row for row in students if row.cell.sampler == "stochastic"]
    add_rows(figure, plain, measured, "students", Style(STUDENT, "circle", 3))
    noisy_style = Style("#c97a00", "triangle-down", 3)
    add_rows(figure, noisy, measured, "stochastic students", noisy_style)
    for sampler, style in _SAMPLERS.items():
        chosen = [r for r in rows if r.cell.role == "baseline" and r.cell.sampler == sampler]
        name = f"teacher, {SAMPLER_NAMES[sampler]}"  # type: ignore[index]
        add_rows(figure, chosen, measured, name, style)
    for row in (row for row in rows if row.cell.role == "teacher"):
        name = f"teacher, {row.cell.steps} steps (band: its interval)"
        add_rows(figure, [row], measured, name, Style(INK, "star", 0, size=13))
        if found := measured.of(row):
            value, interval = found
            figure.add_hline(y=value, line_dash="dash", line_color=_GREY, line_width=1)
            if interval:
                figure.add_hrect(*interval, fillcolor=_GREY, opacity=0.15, line_width=0)
    name_axes(figure, measured)
    return as_json(figure)


def name_axes(figure: go.Figure, measured: Measured) -> None:
    """Evaluations along, by factors; the number upwards."""
    ticks = [2**power for power in range(11)]
    figure.update_xaxes(type="log", title="network evaluations a sample", tickvals=ticks)
    figure.update_yaxes(title=measured.name)
    if measured.by_factors:
        # in full: of 20, Plotly's own ticks show the 2
        values = [digit * 10.0**power for power in range(-4, 5) for digit in (1, 1.5, 2, 3, 5, 7)]
        told = [f"{value:g}" for value in values]
        figure.update_yaxes(type="log", tickvals=values, ticktext=told)


def add_rows(
    figure: go.Figure, rows: Sequence[Point], measured: Measured, name: str, style: Style
) -> None:
    """A line of a number with its intervals, in order of cost; nothing where none was measured."""
    rows = sorted(rows, key=lambda row: row.evaluations)
    found = [(row, *value) for row in rows if (value := measured.of(row))]
    if not found:
        return
    spans = [interval or (value, value) for _, value, interval in found]
    values = [value for _, value, _ in found]
    figure.add_scatter(
        x=[row.evaluations for row, _, _ in found],
        y=values,
        name=name,
        mode="lines+markers" if style.width else "markers",
        line={"color": style.color, "width": style.width},
        marker={"symbol": style.mark, "size": style.size, "color": style.color},
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [max(0.0, high - y) for y, (_, high) in zip(values, spans, strict=True)],
            "arrayminus": [max(0.0, y - low) for y, (low, _) in zip(values, spans, strict=True)],
            "thickness": 1,
            "width": 0,
        },
        customdata=[row.cell.title for row, _, _ in found],
        hovertemplate="%{customdata}<br>%{x} evaluations: <b>%{y:.3g}</b><extra></extra>",
    )
