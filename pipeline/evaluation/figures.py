"""Curves of a report: quality against cost, and what guidance trades. Same input, same bytes."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from pipeline.evaluation.protocol import SAMPLER_NAMES, Report, Row, Scores
from pipeline.evaluation.sampling import Sampler

INK = "#22262e"
FAINT = "#8a919c"
STUDENT = "#c8373f"
_BASELINES: dict[Sampler, tuple[str, str]] = {"ddim": ("#8a919c", "s"), "dpm++": ("#2a6fb0", "^")}

Measure = Callable[[Scores], tuple[float, tuple[float, float]] | None]


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG without time stamp or version, so that equal content is equal bytes."""
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=150, facecolor="white", metadata={"Software": None})


def draw_curve(report: Report, path: Path) -> None:
    """Distance against network evaluations: to real images above, to the teacher's samples below.

    One column a guidance weight. The teacher's reference is a line; shading and bars are 95 %
    bootstrap intervals.
    """
    weights = report.weights
    figure = Figure(figsize=(2.0 + 3.1 * len(weights), 6.9), layout="constrained")
    axes = figure.subplots(2, len(weights), squeeze=False, sharex=True, sharey="row")
    for column, w in enumerate(weights):
        rows = report.at(w)
        _panel(axes[0, column], rows, _to_real)
        _panel(axes[1, column], rows, _to_teacher)
        axes[0, column].axhline(report.real.distance_to_real, color=FAINT, lw=1, ls=":", zorder=1)
        axes[0, column].set_title(f"w = {w:g}", fontsize=12, color=INK)
        axes[1, column].set_xlabel("network evaluations per sample", color=INK)
    axes[0, 0].set_ylabel("Fréchet distance to\nheld-out real images", color=INK)
    axes[1, 0].set_ylabel("Fréchet distance to the\nteacher's own samples", color=INK)
    _legend(figure, axes[0, 0], report)
    figure.suptitle(
        f"{report.run}: distance against cost, {report.protocol.num_samples} samples a point\n",
        fontsize=13,
        color=INK,
        fontweight="bold",
    )
    figure.supxlabel(
        f"Distances in the {report.protocol.features}. Bars: 95 % bootstrap intervals.",
        fontsize=8.5,
        color=FAINT,
    )
    save_figure(figure, path)


def draw_tradeoff(report: Report, path: Path) -> None:
    """Distance to real against inception-type score as w grows, a curve for each network."""
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    ax = figure.subplots()
    groups: dict[str, list[Row]] = {}
    for row in report.rows:
        if row.cell.role in ("teacher", "student"):
            groups.setdefault(row.cell.title, []).append(row)
    students = [title for title in groups if not title.startswith("teacher")]
    for title, rows in groups.items():
        style: dict[str, Any] = {"color": INK, "ls": "--", "marker": "o", "lw": 1.8, "zorder": 4}
        if title in students:
            share = (students.index(title) + 1) / len(students)
            style = {"color": STUDENT, "alpha": 0.25 + 0.75 * share, "marker": "o", "lw": 1.6}
        points = [(row.scores.inception_score, row.scores.distance_to_real) for row in rows]
        ax.plot(*zip(*points, strict=True), label=title, ms=4, **style)
    for row in groups[next(iter(groups))]:
        at = (row.scores.inception_score, row.scores.distance_to_real)
        ax.annotate(
            f"w = {row.cell.w:g}", at, (6, -11), textcoords="offset points", fontsize=8, color=INK
        )
    ax.set_xlabel("inception-type score (this classifier's)", color=INK)
    ax.set_ylabel("Fréchet distance to held-out real images", color=INK)
    ax.set_title(f"{report.run}: what guidance trades", color=INK, fontweight="bold", fontsize=12)
    ax.legend(frameon=False, fontsize=8)
    _bare(ax)
    save_figure(figure, path)


def _to_real(scores: Scores) -> tuple[float, tuple[float, float]]:
    return scores.distance_to_real, scores.distance_to_real_interval


def _to_teacher(scores: Scores) -> tuple[float, tuple[float, float]] | None:
    if scores.distance_to_teacher is None or scores.distance_to_teacher_interval is None:
        return None
    return scores.distance_to_teacher, scores.distance_to_teacher_interval


def _panel(ax: Axes, rows: Sequence[Row], measure: Measure) -> None:
    teacher = [row for row in rows if row.cell.role == "teacher"]
    for row in teacher:
        found = measure(row.scores)
        if found is not None:
            value, (low, high) = found
            ax.axhspan(low, high, color=INK, alpha=0.08, lw=0)
            ax.axhline(value, color=INK, lw=1.2, ls="--")
            ax.plot([row.evaluations], [value], marker="*", ms=12, color=INK, zorder=5)
    for sampler, (color, marker) in _BASELINES.items():
        chosen = [r for r in rows if r.cell.role == "baseline" and r.cell.sampler == sampler]
        _line(ax, chosen, measure, color=color, marker=marker, lw=1.5, ms=5, zorder=3)
    students = [row for row in rows if row.cell.role == "student"]
    _line(ax, students, measure, color=STUDENT, marker="o", lw=2.2, ms=6, zorder=6)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    _bare(ax)


def _line(ax: Axes, rows: Sequence[Row], measure: Measure, **style: Any) -> None:
    points = sorted(
        (row.evaluations, found) for row in rows for found in [measure(row.scores)] if found
    )
    if not points:
        return
    x = [evaluations for evaluations, _ in points]
    y = [value for _, (value, _) in points]
    below = [max(0.0, value - low) for _, (value, (low, _)) in points]
    above = [max(0.0, high - value) for _, (value, (_, high)) in points]
    ax.errorbar(x, y, yerr=(below, above), capsize=0, elinewidth=1, **style)


def _legend(figure: Figure, ax: Axes, report: Report) -> None:
    steps = report.protocol.reference_steps
    entries: list[tuple[Any, str]] = [
        (ax.plot([], [], color=STUDENT, marker="o", lw=2.2)[0], "distilled students"),
    ]
    entries += [
        (
            ax.plot([], [], color=color, marker=marker, lw=1.5)[0],
            f"teacher, {SAMPLER_NAMES[sampler]} (training-free)",
        )
        for sampler, (color, marker) in _BASELINES.items()
    ]
    entries += [
        (
            ax.plot([], [], color=INK, marker="*", ms=10, ls="--", lw=1.2)[0],
            f"teacher, {steps} steps",
        ),
        (ax.plot([], [], color=FAINT, ls=":", lw=1)[0], "real training images"),
    ]
    figure.legend(
        [handle for handle, _ in entries],
        [label for _, label in entries],
        loc="outside upper center",
        ncols=len(entries),
        frameon=False,
        fontsize=9,
    )


def _bare(ax: Axes) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(FAINT)
    ax.tick_params(colors=FAINT, labelcolor=INK, labelsize=9)
    ax.grid(visible=True, which="major", axis="y", color="#e6e8eb", lw=0.8)
    ax.set_axisbelow(True)
