"""Plotly charts of quality against network evaluations per sample."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from pipeline.evaluation.documents import SAMPLER_NAMES, AnyReport, AnyRow, ExtractorMetrics
from pipeline.evaluation.figures.curves import EXTRACTOR_METRICS_SHOWN, STUDENT, error_bars
from pipeline.evaluation.reports.view import main_metric, metric_of
from pipeline.evaluation.tables import Value
from pipeline.page.charts import INK, as_json
from pipeline.page.view_model import Chart, ChartKind

_GREY = "#8a919c"


@dataclass(frozen=True)
class Measured:
    """A metric to plot: field of the scores, title of the axis, and whether that is logarithmic."""

    key: str
    name: str
    is_logarithmic: bool = True


@dataclass(frozen=True)
class Style:
    """Line style; a width of 0 draws points only."""

    color: str
    mark: str
    width: int
    size: int = 9


_PLAIN, _NOISY = "students", "stochastic students"
STUDENT_STYLES = {
    _PLAIN: Style(STUDENT, "circle", 3),
    _NOISY: Style("#c97a00", "triangle-down", 3),
}
_SAMPLERS = {
    "ddim": Style(_GREY, "square", 2),
    "dpm++": Style("#2a6fb0", "triangle-up", 2),
    "unipc": Style("#3a8f5c", "diamond", 2),
}


@dataclass(frozen=True)
class Curves:
    """A metric against cost, as one chart per guidance weight.

    Attributes:
        key: key of the metric, prefixed by the extractor's kind if it has one.
        name: prefix of the charts' names.
        title: prefix of the charts' titles.
        kind: kind of the charts.
        measured: the metric.
        rows: all rows.
    """

    key: str
    name: str
    title: str
    kind: ChartKind
    measured: Measured
    rows: Sequence[AnyRow]

    @property
    def by_weight(self) -> dict[float, list[AnyRow]]:
        """Rows by guidance weight."""
        found: dict[float, list[AnyRow]] = {}
        for row in self.rows:
            found.setdefault(row.cell.w, []).append(row)
        return found

    def chart(self, w: float, figure: go.Figure) -> Chart:
        """Wrap a figure as the chart of a guidance weight."""
        return Chart(
            f"{self.name}-{w:g}", w, f"{self.title}, w = {w:g}", as_json(figure), self.kind
        )


def curves_of(report: AnyReport) -> list[Curves]:
    """Return the main metric of a report, then the main metrics of each extractor."""
    main = Measured(*main_metric(report))
    found = [Curves(main.key, "curve", "Quality against cost", "curve", main, report.rows)]
    return [*found, *(curves for panel in report.panels for curves in _of_panel(panel))]


def _of_panel(panel: ExtractorMetrics) -> Iterator[Curves]:
    heads = {metric.metric: metric.title for metric in panel.metrics}
    for key in (key for key in EXTRACTOR_METRICS_SHOWN if key in heads):
        measured = Measured(key, heads[key], is_logarithmic=key != "clip_score")
        title = f"{panel.extractor} features: {heads[key]}"
        name = f"{panel.kind}-{key}"
        yield Curves(key_in(panel.kind, key), name, title, "panel", measured, panel.rows)


def key_in(kind: str, metric: str) -> str:
    """Prefix a metric by the kind of its extractor; `kind` is "" for the report's own metrics."""
    return f"{kind}/{metric}" if kind else metric


def curve_charts(report: AnyReport) -> list[Chart]:
    """Build all quality charts, by metric and guidance weight."""
    return [chart for curves in curves_of(report) for chart in charts_of(curves)]


def charts_of(curves: Curves) -> list[Chart]:
    """Build a chart for each guidance weight."""
    by_weight = curves.by_weight.items()
    return [curves.chart(w, _curve(rows, curves.measured)) for w, rows in by_weight]


def _curve(rows: Sequence[AnyRow], measured: Measured) -> go.Figure:
    figure = go.Figure()
    students = [row for row in rows if row.cell.role == "student"]
    for name, ladder in ladders(students).items():
        add_rows(figure, ladder, measured, name, STUDENT_STYLES[name])
    for sampler, style in _SAMPLERS.items():
        chosen = [r for r in rows if r.cell.role == "baseline" and r.cell.sampler == sampler]
        name = f"teacher, {SAMPLER_NAMES[sampler]}"  # type: ignore[index]
        add_rows(figure, chosen, measured, name, style)
    for row in (row for row in rows if row.cell.role == "teacher"):
        name = f"teacher, {row.cell.steps} steps (band: 95 % interval)"
        add_rows(figure, [row], measured, name, Style(INK, "star", 0, size=13))
        if found := metric_of(row, measured.key):
            value, interval = found
            figure.add_hline(y=value, line_dash="dash", line_color=_GREY, line_width=1)
            if interval:
                figure.add_hrect(*interval, fillcolor=_GREY, opacity=0.15, line_width=0)
    name_axes(figure, measured)
    return figure


def ladders(students: Sequence[AnyRow]) -> dict[str, list[AnyRow]]:
    """Group students by ladder, with the ladder's name; the deterministic ladder first."""
    found: dict[str, list[AnyRow]] = {_PLAIN: [], _NOISY: []}
    for row in students:
        found[_NOISY if row.cell.is_stochastic_student else _PLAIN].append(row)
    return {name: rows for name, rows in found.items() if rows}


def name_axes(figure: go.Figure, measured: Measured) -> None:
    """Label the axes: evaluations on a logarithmic x axis, the metric on the y axis."""
    ticks = [2**power for power in range(11)]
    figure.update_xaxes(type="log", title="network evaluations per sample", tickvals=ticks)
    figure.update_yaxes(title=measured.name)
    if measured.is_logarithmic:
        # explicit labels, because Plotly's default labels 20 as "2"
        values = [digit * 10.0**power for power in range(-4, 5) for digit in (1, 1.5, 2, 3, 5, 7)]
        labels = [f"{value:g}" for value in values]
        figure.update_yaxes(type="log", tickvals=values, ticktext=labels)


def add_rows(
    figure: go.Figure, rows: Sequence[AnyRow], measured: Measured, name: str, style: Style
) -> None:
    """Add a line of a metric with intervals, in order of cost; nothing without values."""
    found = [
        (r.evaluations, value, r.cell.title) for r in rows if (value := metric_of(r, measured.key))
    ]
    add_marks(figure, found, name, style, "evaluations")


def add_marks(
    figure: go.Figure, marks: Sequence[tuple[int, Value, str]], name: str, style: Style, unit: str
) -> None:
    """Add a line of numbers with intervals; nothing if `marks` is empty.

    Args:
        figure: figure to extend.
        marks: x value, number with interval, and hover title.
        name: name of the line.
        style: style of the line.
        unit: unit of the x values.
    """
    if not marks:
        return
    marks = sorted(marks, key=lambda mark: mark[0])
    below, above = error_bars([value for _, value, _ in marks])
    figure.add_scatter(
        x=[along for along, _, _ in marks],
        y=[value for _, (value, _), _ in marks],
        name=name,
        mode="lines+markers" if style.width else "markers",
        line={"color": style.color, "width": style.width},
        marker={"symbol": style.mark, "size": style.size, "color": style.color},
        error_y={
            "type": "data",
            "symmetric": False,
            "array": above,
            "arrayminus": below,
            "thickness": 1,
            "width": 0,
        },
        customdata=[title for _, _, title in marks],
        hovertemplate=f"%{{customdata}}<br>%{{x}} {unit}: <b>%{{y:.3g}}</b><extra></extra>",
    )
