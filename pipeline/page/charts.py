"""Charts for a browser: quality against cost, what guidance trades, how training went."""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
import plotly.io

from pipeline.evaluation.agreement import AgreementReport, AgreementRow
from pipeline.evaluation.figures import STUDENT
from pipeline.evaluation.protocol import SAMPLER_NAMES, Report, Row
from pipeline.page.content import Chart

_GREY, _BLUE = "#8a919c", "#2a6fb0"
_SAMPLERS = (
    ("ddim", _GREY, "square"),
    ("dpm++", _BLUE, "triangle-up"),
    ("unipc", "#3a8f5c", "diamond"),
)
_SHADES = (
    "#f0a04b",
    "#e3683c",
    STUDENT,
    "#b4478a",
    "#7d62c4",
    "#3f8fd2",
)  # seen on white and on black
_MOST_POINTS = 400

AnyRow = Row | AgreementRow
Value = tuple[float, tuple[float, float] | None]


def curve_charts(report: Report | AgreementReport) -> list[Chart]:
    """Quality against network evaluations, one chart for each guidance weight."""
    weights = dict.fromkeys(row.cell.w for row in report.rows)
    return [_curve(report, w) for w in weights]


def _curve(report: Report | AgreementReport, w: float) -> Chart:
    rows = [row for row in report.rows if row.cell.w == w and row.cell.role != "yardstick"]
    figure = go.Figure()
    students = [row for row in rows if row.cell.role == "student"]
    plain = [row for row in students if row.cell.sampler != "stochastic"]
    noisy = [row for row in students if row.cell.sampler == "stochastic"]
    add_rows(figure, plain, "students", STUDENT, "circle", 3)
    add_rows(figure, noisy, "stochastic students", "#c97a00", "triangle-down", 3)
    for sampler, color, mark in _SAMPLERS:
        chosen = [r for r in rows if r.cell.role == "baseline" and r.cell.sampler == sampler]
        name = f"teacher, {SAMPLER_NAMES[sampler]}"  # type: ignore[index]
        add_rows(figure, chosen, name, color, mark, 2)
    for row in (row for row in rows if row.cell.role == "teacher"):
        value, interval = _main(row)
        name = f"teacher, {row.cell.steps} steps (band: its interval)"
        add_rows(figure, [row], name, "#22262e", "star", 0, size=13)
        figure.add_hline(y=value, line_dash="dash", line_color=_GREY, line_width=1)
        if interval:
            figure.add_hrect(*interval, fillcolor=_GREY, opacity=0.15, line_width=0)
    name_axes(figure, report)
    return Chart(f"curve-{w:g}", w, f"Quality against cost, w = {w:g}", as_json(figure))


def name_axes(figure: go.Figure, report: Report | AgreementReport) -> None:
    """Evaluations along, the number that the report is about upwards, both by factors."""
    ticks = [2**power for power in range(11)]
    figure.update_xaxes(type="log", title="network evaluations a sample", tickvals=ticks)
    # in full: of 20, Plotly's own ticks show the 2
    values = [digit * 10.0**power for power in range(-4, 5) for digit in (1, 1.5, 2, 3, 5, 7)]
    told = [f"{value:g}" for value in values]
    figure.update_yaxes(type="log", title=_name_of(report), tickvals=values, ticktext=told)


def add_rows(
    figure: go.Figure,
    rows: Sequence[AnyRow],
    name: str,
    color: str,
    mark: str,
    width: int,
    size: int = 9,
) -> None:
    """A line of what a report is about, with intervals, in order of cost; nothing for no rows."""
    if not rows:
        return
    rows = sorted(rows, key=lambda row: row.evaluations)
    values = [_main(row) for row in rows]
    errors = [(high - value, value - low) for value, (low, high) in _with_intervals(values)]
    figure.add_scatter(
        x=[row.evaluations for row in rows],
        y=[value for value, _ in values],
        name=name,
        mode="lines+markers" if width else "markers",
        line={"color": color, "width": width},
        marker={"symbol": mark, "size": size, "color": color, "line": {"width": 0}},
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [max(0.0, up) for up, _ in errors],
            "arrayminus": [max(0.0, down) for _, down in errors],
            "thickness": 1,
            "width": 0,
        },
        customdata=[row.cell.title for row in rows],
        hovertemplate="%{customdata}<br>%{x} evaluations: <b>%{y:.3g}</b><extra></extra>",
    )


def _with_intervals(values: Sequence[Value]) -> list[tuple[float, tuple[float, float]]]:
    return [(value, interval or (value, value)) for value, interval in values]


def _main(row: AnyRow) -> Value:
    """The number that a report is about, with its 95 % interval."""
    if isinstance(row, Row):
        return row.scores.distance_to_real, row.scores.distance_to_real_interval
    return row.scores.rms_to_teacher, row.scores.rms_to_teacher_interval


def _name_of(report: Report | AgreementReport) -> str:
    if isinstance(report, Report):
        return "Fréchet distance to real images"
    return "RMS to the teacher's sample"


def trade_charts(report: Report) -> list[Chart]:
    """Distance, score and recall against w, a line for each network."""
    if len(report.weights) < 2:
        return []
    lines: dict[str, list[Row]] = {}
    for row in report.rows:
        if row.cell.role in ("teacher", "student"):
            lines.setdefault(row.cell.title, []).append(row)
    traded = {
        "distance to real images": "distance_to_real",
        "inception-type score": "inception_score",
        "recall": "recall",
    }
    return [_trade(lines, report.weights, label, key) for label, key in traded.items()]


def _trade(lines: dict[str, list[Row]], weights: Sequence[float], label: str, key: str) -> Chart:
    figure = go.Figure()
    for position, (title, rows) in enumerate(lines.items()):
        is_student = rows[0].cell.role == "student"
        color = _SHADES[min(position - 1, len(_SHADES) - 1)] if is_student else "#22262e"
        figure.add_scatter(
            x=[row.cell.w for row in rows],
            y=[getattr(row.scores, key) for row in rows],
            name=title,
            mode="lines+markers",
            line={"color": color, "width": 2, "dash": "solid" if is_student else "dash"},
            marker={"size": 7},
            hovertemplate=f"{title}<br>w = %{{x}}: <b>%{{y:.3g}}</b><extra></extra>",
        )
    figure.update_xaxes(title="guidance weight w", tickvals=list(weights))
    figure.update_yaxes(title=label)
    return Chart(f"trade-{key}", None, label.capitalize(), as_json(figure))


def training_chart(losses: dict[str, list[dict[str, float]]]) -> Chart | None:
    """The loss of every round against its updates; `losses` are the lines of metrics by title."""
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
    figure.update_yaxes(type="log", title="training loss")
    return Chart("training", None, "How training went", as_json(figure))


def as_json(figure: go.Figure) -> str:
    """A figure for a script element, with what all our charts have in common."""
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
    return text.replace("</", "<\\/")  # it stands in a script element
