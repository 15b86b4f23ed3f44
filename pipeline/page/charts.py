"""Plotly charts: quality against network evaluations, the guidance trade-off, training losses."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
import plotly.io

from pipeline.evaluation.documents import (
    AnyReport,
    AnyRow,
    Report,
    Row,
    baselines_of,
    teacher_title,
)
from pipeline.evaluation.figures.curves import EXTRACTOR_METRICS_SHOWN, STUDENT, error_bars
from pipeline.evaluation.tables import Value, main_metric, metric_of
from pipeline.page.view_model import Chart, ChartKind

INK = "#22262e"
GREY = "#8a919c"
_SHADES = (
    "#f0a04b",
    "#e3683c",
    STUDENT,
    "#b4478a",
    "#7d62c4",
    "#3f8fd2",
)  # visible on light and dark backgrounds
_MOST_POINTS = 400
_MARGIN = 0.05  # share of an axis beyond the outermost points
_NAMES = {
    "w": "guidance weight w",
    "distance_to_real": "distance to real images",
    "inception_score": "inception-type score",
    "recall": "recall (diversity)",
    "precision": "precision (quality)",
}

Losses = Mapping[str, Sequence[Mapping[str, int | float]]]
"""Logged metrics, by title of their round."""

Spans = Mapping[str, tuple[float, float]]
"""Axis ranges, by metric."""


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
    "ddim": Style(GREY, "square", 2),
    "dpm++": Style("#2a6fb0", "triangle-up", 2),
    "unipc": Style("#3a8f5c", "diamond", 2),
}
_OTHER_SAMPLER = Style("#7d5ba6", "cross", 2)


@dataclass(frozen=True)
class Curves:
    """A metric against cost, as one chart per guidance weight.

    Attributes:
        key: key of the metric, prefixed by the extractor's kind if it has one.
        metric: field of the scores.
        axis: title of the metric's axis.
        name: prefix of the charts' names.
        title: prefix of the charts' titles.
        kind: kind of the charts.
        rows: all rows.
    """

    key: str
    metric: str
    axis: str
    name: str
    title: str
    kind: ChartKind
    rows: Sequence[AnyRow]

    @property
    def by_weight(self) -> dict[float, list[AnyRow]]:
        """Rows by guidance weight."""
        found: dict[float, list[AnyRow]] = {}
        for row in self.rows:
            found.setdefault(row.cell.w, []).append(row)
        return found

    @property
    def charts(self) -> list[Chart]:
        """A chart for each guidance weight."""
        return [self.chart(w, _quality(rows, self.metric)) for w, rows in self.by_weight.items()]

    def chart(self, w: float, figure: go.Figure) -> Chart:
        """Label the axes of a figure, and wrap it as the chart of a guidance weight."""
        ticks = [2**power for power in range(11)]
        figure.update_xaxes(type="log", title="network evaluations per sample", tickvals=ticks)
        figure.update_yaxes(title=self.axis)
        if self.metric != "clip_score":
            _make_logarithmic(figure, (1, 1.5, 2, 3, 5, 7))
        title = f"{self.title}, w = {w:g}"
        return Chart(f"{self.name}-{w:g}", w, title, as_json(figure), self.kind)


def _make_logarithmic(figure: go.Figure, digits: Sequence[int | float]) -> None:
    """Make the y axis logarithmic, labelled in full: Plotly's default labels 20 as "2"."""
    values = [digit * 10.0**power for power in range(-6, 5) for digit in digits]
    labels = [f"{value:g}" for value in values]
    figure.update_yaxes(type="log", tickvals=values, ticktext=labels)


def curves_of(report: AnyReport) -> list[Curves]:
    """Return the main metric of a report, then the main metrics of each extractor."""
    key, axis = main_metric(report)
    found = [Curves(key, key, axis, "curve", "Quality against cost", "curve", report.rows)]
    for panel in report.panels:
        heads = {metric.metric: metric.title for metric in panel.metrics}
        for key in (key for key in EXTRACTOR_METRICS_SHOWN if key in heads):
            title, name = f"{panel.extractor} features: {heads[key]}", f"{panel.kind}-{key}"
            place = key_in(panel.kind, key)
            found.append(Curves(place, key, heads[key], name, title, "panel", panel.rows))
    return found


def key_in(kind: str, metric: str) -> str:
    """Prefix a metric by the kind of its extractor; `kind` is "" for the report's own metrics."""
    return f"{kind}/{metric}" if kind else metric


def curve_charts(report: AnyReport) -> list[Chart]:
    """Build all quality charts, by metric and guidance weight."""
    return [chart for curves in curves_of(report) for chart in curves.charts]


def _quality(rows: Sequence[AnyRow], metric: str) -> go.Figure:
    figure = go.Figure()
    for name, ladder in ladders(rows).items():
        add_rows(figure, ladder, metric, name, STUDENT_STYLES[name])
    for sampler, chosen in baselines_of(rows).items():
        style = _SAMPLERS.get(sampler, _OTHER_SAMPLER)
        add_rows(figure, chosen, metric, teacher_title(sampler), style)
    for row in (row for row in rows if row.cell.role == "teacher"):
        name = f"teacher, {row.cell.steps} steps (band: 95 % interval)"
        add_rows(figure, [row], metric, name, Style(INK, "star", 0, size=13))
        if found := metric_of(row, metric):
            value, interval = found
            figure.add_hline(y=value, line_dash="dash", line_color=GREY, line_width=1)
            if interval:
                figure.add_hrect(*interval, fillcolor=GREY, opacity=0.15, line_width=0)
    return figure


def ladders(rows: Sequence[AnyRow]) -> dict[str, list[AnyRow]]:
    """Group students by ladder, with the ladder's name; the deterministic ladder first."""
    found: dict[str, list[AnyRow]] = {_PLAIN: [], _NOISY: []}
    for row in (row for row in rows if row.cell.role == "student"):
        found[_NOISY if row.cell.is_stochastic_student else _PLAIN].append(row)
    return {name: ladder for name, ladder in found.items() if ladder}


def add_rows(
    figure: go.Figure, rows: Sequence[AnyRow], metric: str, name: str, style: Style
) -> None:
    """Add a line of a metric with intervals, in order of cost; nothing without values."""
    found = [(row.evaluations, metric_of(row, metric), row.cell.title) for row in rows]
    add_marks(figure, found, name, style, "evaluations")


def add_marks(
    figure: go.Figure,
    marks: Sequence[tuple[int, Value | None, str]],
    name: str,
    style: Style,
    unit: str,
) -> None:
    """Add a line of numbers with intervals; nothing without numbers.

    Args:
        figure: figure to extend.
        marks: x value, number with interval, and hover title; without number it is left out.
        name: name of the line.
        style: style of the line.
        unit: unit of the x values.
    """
    found = [(x, value, title) for x, value, title in marks if value is not None]
    found.sort(key=lambda mark: mark[0])
    if not found:
        return
    figure.add_scatter(
        x=[x for x, _, _ in found],
        y=[value for _, (value, _), _ in found],
        name=name,
        mode="lines+markers" if style.width else "markers",
        line={"color": style.color, "width": style.width},
        marker={"symbol": style.mark, "size": style.size, "color": style.color},
        error_y=_error_bars([value for _, value, _ in found]),
        customdata=[title for _, _, title in found],
        hovertemplate=f"%{{customdata}}<br>%{{x}} {unit}: <b>%{{y:.3g}}</b><extra></extra>",
    )


def _error_bars(found: Sequence[Value]) -> dict[str, Any]:
    """Return error bars of the 95 % intervals; invisible if there are none."""
    below, above = error_bars(found)
    if not any((*below, *above)):
        return {"visible": False}
    asymmetric = {"symmetric": False, "array": above, "arrayminus": below}
    return {"type": "data", "thickness": 1, "width": 0, **asymmetric}


def trade_charts(report: Report, spans: Spans | None = None) -> list[Chart]:
    """Plot the guidance trade-off, one line per network: metrics against w, then pairs of metrics.

    As in the trade-off curves of Meng et al. 2022, arXiv:2210.03142: one student covers every w,
    so it has one line beside its teacher's.

    Args:
        report: report with the metrics.
        spans: fixed axis ranges; other axes fit the lines.
    """
    if len(report.weights) < 2:
        return []
    lines: dict[str, list[Row]] = {}
    for row in _networks(report):
        lines.setdefault(row.cell.title, []).append(row)
    charts = []
    for key in ("distance_to_real", "recall"):
        figure = _trade(lines, "w", key, spans or {})
        figure.update_xaxes(tickvals=report.weights)
        title = _NAMES[key].capitalize()
        charts.append(Chart(f"trade-{key}", None, title, as_json(figure), "trade"))
    for across, up in (("inception_score", "distance_to_real"), ("recall", "precision")):
        title = f"{_NAMES[up].capitalize()} against {_NAMES[across]}, w varies along each line"
        drawn = as_json(_trade(lines, across, up, spans or {}))
        charts.append(Chart(f"trade-{across}-{up}", None, title, drawn, "trade"))
    return charts


def spans_of(reports: Sequence[Report]) -> Spans:
    """Compute axis ranges that contain the lines and intervals of all reports."""
    rows = [row for report in reports for row in _networks(report)]
    found = {}
    for key in _NAMES:
        values = [_at(row, key) for row in rows]
        ends = [end for value, interval in values for end in (value, *(interval or ()))]
        if ends:
            room = _MARGIN * (max(ends) - min(ends) or 1)
            found[key] = min(ends) - room, max(ends) + room
    return found


def _networks(report: Report) -> Iterator[Row]:
    return (row for row in report.rows if row.cell.role in ("teacher", "student"))


def _at(row: Row, key: str) -> Value:
    if key == "w":
        return row.cell.w, None
    return getattr(row.scores, key), getattr(row.scores, f"{key}_interval")


def _trade(lines: Mapping[str, list[Row]], across: str, up: str, spans: Spans) -> go.Figure:
    """Plot one metric of each network against another, along w."""
    figure = go.Figure()
    seen: Counter[bool] = Counter()  # students so far, by ladder; both ladders share the colours
    for title, rows in lines.items():
        noisy = rows[0].cell.is_stochastic_student
        color, dash = INK, "dash"
        if rows[0].cell.role == "student":
            color, dash = _SHADES[min(seen[noisy], len(_SHADES) - 1)], "dot" if noisy else "solid"
            seen[noisy] += 1
        x, y = ([_at(row, key) for row in rows] for key in (across, up))
        figure.add_scatter(
            x=[value for value, _ in x],
            y=[value for value, _ in y],
            name=title,
            mode="lines+markers",
            line={"color": color, "width": 2, "dash": dash},
            marker={"size": 7},
            error_x=_error_bars(x),
            error_y=_error_bars(y),
            customdata=[row.cell.w for row in rows],
            hovertemplate=f"{title}<br>w = %{{customdata}}: <b>%{{y:.3g}}</b><extra></extra>",
        )
    figure.update_xaxes(title=_NAMES[across], range=spans.get(across))
    figure.update_yaxes(title=_NAMES[up], range=spans.get(up))
    return figure


def training_chart(losses: Losses) -> Chart | None:
    """Plot the loss of every round against its updates; None without losses."""
    figure = go.Figure()
    for position, (title, lines) in enumerate(losses.items()):
        kept = lines[:: max(1, len(lines) // _MOST_POINTS)]
        figure.add_scatter(
            x=[line["update"] for line in kept],
            y=[line["train/loss"] for line in kept],
            name=title,
            mode="lines",
            line={"color": _SHADES[position % len(_SHADES)], "width": 1.6},
            hovertemplate=f"{title}<br>update %{{x}}: <b>%{{y:.3g}}</b><extra></extra>",
        )
    if not figure.data:
        return None
    figure.update_xaxes(title="updates")
    figure.update_yaxes(title="training loss")
    _make_logarithmic(figure, (1, 2, 5))
    return Chart("training", None, "Training loss", as_json(figure), "training")


def as_json(figure: go.Figure) -> str:
    """Convert a figure to JSON for a script element, with the common layout."""
    layout: dict[str, Any] = {
        "template": "none",
        "margin": {"l": 62, "r": 12, "t": 12, "b": 48},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "hoverlabel": {"align": "left"},
    }
    figure.update_layout(**layout)
    text: str = plotly.io.to_json(figure, validate=True)
    return text.replace("<", r"\u003c")  # so that the text cannot close its script element
