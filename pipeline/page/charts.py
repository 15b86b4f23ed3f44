"""Plotly charts of the guidance trade-off and of training losses."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
import plotly.io

from pipeline.evaluation.documents import Report, Row
from pipeline.evaluation.figures.curves import STUDENT, error_bars
from pipeline.evaluation.reports.view import metric_of
from pipeline.page.view_model import Chart

INK = "#22262e"
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


def trade_charts(report: Report, spans: Spans | None = None) -> list[Chart]:
    """Plot the guidance trade-off, one line per network: metrics against w, then pairs of metrics.

    As in the trade-off curves of Meng et al. 2022, arXiv:2210.03142: one student covers every w,
    so it has one line beside its teacher's.

    Args:
        report: report with the metrics.
        spans: fixed axis ranges; other axes fit the lines.
    """
    spans = spans or {}
    if len(report.weights) < 2:
        return []
    lines: dict[str, list[Row]] = {}
    for row in report.rows:
        if row.cell.role in ("teacher", "student"):
            lines.setdefault(row.cell.title, []).append(row)
    charts = []
    for key in ("distance_to_real", "recall"):
        figure = _lines(lines, "w", key, spans)
        figure.update_xaxes(tickvals=report.weights)
        title = _NAMES[key].capitalize()
        charts.append(Chart(f"trade-{key}", None, title, as_json(figure), "trade"))
    for across, up in (("inception_score", "distance_to_real"), ("recall", "precision")):
        title = f"{_NAMES[up].capitalize()} against {_NAMES[across]}, w varies along each line"
        drawn = as_json(_lines(lines, across, up, spans))
        charts.append(Chart(f"trade-{across}-{up}", None, title, drawn, "trade"))
    return charts


def spans_of(reports: Sequence[Report]) -> Spans:
    """Compute axis ranges that contain the lines and intervals of all reports."""
    rows = [r for each in reports for r in each.rows if r.cell.role in ("teacher", "student")]
    ends = {key: [end for row in rows for end in _ends(row, key)] for key in _NAMES}
    return {key: _with_margin(min(found), max(found)) for key, found in ends.items() if found}


def _ends(row: Row, name: str) -> tuple[float, ...]:
    """Return a row's value and interval ends along an axis."""
    _, interval = metric_of(row, name) or (None, None)
    return (_number(row, name), *(interval or ()))


def _with_margin(low: float, high: float) -> tuple[float, float]:
    room = _MARGIN * (high - low or 1)
    return low - room, high + room


def _lines(lines: dict[str, list[Row]], across: str, up: str, spans: Spans) -> go.Figure:
    """Plot one metric of each network against another, along w."""
    figure = go.Figure()
    seen: Counter[bool] = Counter()  # students so far, by ladder; both ladders share the colours
    for title, rows in lines.items():
        noisy = rows[0].cell.is_stochastic_student
        color, dash = INK, "dash"
        if rows[0].cell.role == "student":
            color, dash = _SHADES[min(seen[noisy], len(_SHADES) - 1)], "dot" if noisy else "solid"
            seen[noisy] += 1
        figure.add_scatter(
            x=[_number(row, across) for row in rows],
            y=[_number(row, up) for row in rows],
            name=title,
            mode="lines+markers",
            line={"color": color, "width": 2, "dash": dash},
            marker={"size": 7},
            error_x=_error_bars(rows, across),
            error_y=_error_bars(rows, up),
            customdata=[row.cell.w for row in rows],
            hovertemplate=f"{title}<br>w = %{{customdata}}: <b>%{{y:.3g}}</b><extra></extra>",
        )
    figure.update_xaxes(title=_NAMES[across], range=spans.get(across))
    figure.update_yaxes(title=_NAMES[up], range=spans.get(up))
    return figure


def _error_bars(rows: list[Row], name: str) -> dict[str, Any]:
    """Return error bars of the 95 % intervals; invisible if there are none."""
    found = [value for row in rows if (value := metric_of(row, name))]
    below, above = error_bars(found)
    if not any((*below, *above)):
        return {"visible": False}
    asymmetric = {"symmetric": False, "array": above, "arrayminus": below}
    return {"type": "data", "thickness": 1, "width": 0, **asymmetric}


def _number(row: Row, name: str) -> float:
    found: float = row.cell.w if name == "w" else getattr(row.scores, name)
    return found


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
    figure.update_yaxes(type="log", title="training loss")
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
