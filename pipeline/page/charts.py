"""Charts for a browser: what guidance trades, and how training went."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
import plotly.io

from pipeline.evaluation.documents import Report, Row
from pipeline.evaluation.figures.curves import STUDENT, bars
from pipeline.evaluation.tables import value_of
from pipeline.page.view_model import Chart

INK = "#22262e"
_SHADES = (
    "#f0a04b",
    "#e3683c",
    STUDENT,
    "#b4478a",
    "#7d62c4",
    "#3f8fd2",
)  # seen on white and on black
_MOST_POINTS = 400
_MARGIN = 0.05  # of an axis, beyond the marks at either end
_NAMES = {
    "w": "guidance weight w",
    "distance_to_real": "distance to real images",
    "inception_score": "inception-type score",
    "recall": "recall (diversity)",
    "precision": "precision (quality)",
}


Losses = Mapping[str, Sequence[Mapping[str, int | float]]]
"""Lines of metrics by the title of their round."""


Spans = Mapping[str, tuple[float, float]]
"""From where to where an axis goes, by what is along it."""


def trade_charts(report: Report, spans: Spans | None = None) -> list[Chart]:
    """What guidance trades, a line for each network: each number against w, then two by two.

    One student serves every w, so it has a line of its own beside its teacher's, as in the
    trade-off curves of Meng et al. 2022, arXiv:2210.03142.

    Args:
        report: what was measured.
        spans: of axes that are not to fit these lines alone.
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
        title = f"{_NAMES[up].capitalize()} against {_NAMES[across]}, w along each line"
        drawn = as_json(_lines(lines, across, up, spans))
        charts.append(Chart(f"trade-{across}-{up}", None, title, drawn, "trade"))
    return charts


def spans_of(reports: Sequence[Report]) -> Spans:
    """Axes that hold the lines of all of these reports, with their intervals."""
    rows = [r for each in reports for r in each.rows if r.cell.role in ("teacher", "student")]
    ends = {key: [end for row in rows for end in _ends(row, key)] for key in _NAMES}
    return {key: _with_margin(min(found), max(found)) for key, found in ends.items() if found}


def _ends(row: Row, name: str) -> tuple[float, ...]:
    """All that a row takes up along an axis."""
    _, interval = value_of(row.scores.model_dump(), name) or (None, None)
    return (_number(row, name), *(interval or ()))


def _with_margin(low: float, high: float) -> tuple[float, float]:
    room = _MARGIN * (high - low or 1)
    return low - room, high + room


def _lines(lines: dict[str, list[Row]], across: str, up: str, spans: Spans) -> go.Figure:
    """One number of each network against another, w by w."""
    figure = go.Figure()
    seen: Counter[bool] = Counter()  # students of each ladder so far, which share their shades
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
    """The 95 % intervals of a number of rows, where they have any."""
    found = [value for row in rows if (value := value_of(row.scores.model_dump(), name))]
    below, above = bars(found)
    if not any((*below, *above)):
        return {"visible": False}
    asymmetric = {"symmetric": False, "array": above, "arrayminus": below}
    return {"type": "data", "thickness": 1, "width": 0, **asymmetric}


def _number(row: Row, name: str) -> float:
    found: float = row.cell.w if name == "w" else getattr(row.scores, name)
    return found


def training_chart(losses: Losses) -> Chart | None:
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
    return Chart("training", None, "How training went", as_json(figure), "training")


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
    return text.replace("<", r"\u003c")  # it stands in a script element, which it must not end
