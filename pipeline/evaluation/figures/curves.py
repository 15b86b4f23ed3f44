"""Figures of a report: quality against cost, and the guidance trade-off. Bitwise reproducible."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from pipeline.evaluation.documents import (
    AnyRow,
    ExtractorMetrics,
    Report,
    Row,
    baselines_of,
    teacher_title,
)
from pipeline.evaluation.tables import Value, value_of

INK = "#22262e"
FAINT = "#8a919c"
STUDENT = "#c8373f"

# hollow squares and diamonds, so that overlapping points of several solvers stay visible
_BASELINES: dict[str, dict[str, Any]] = {
    "ddim": {"color": "#8a919c", "marker": "s", "ms": 8, "mfc": "none", "mew": 1.3},
    "dpm++": {"color": "#2a6fb0", "marker": "^", "ms": 5},
    "unipc": {"color": "#3a8f5c", "marker": "D", "ms": 4.5, "mfc": "none", "mew": 1.2},
}
_OTHER_BASELINE: dict[str, Any] = {"color": "#7d5ba6", "marker": "P", "ms": 5}
_STUDENTS: tuple[dict[str, Any], ...] = (
    {"color": STUDENT, "marker": "o", "label": "distilled students"},
    {"color": "#c97a00", "marker": "v", "ls": "--", "label": "distilled students, stochastic"},
)
_STUDENT_SHADES = ("#f0b27a", STUDENT, "#4a0d20")

_NAMES = {
    "w": "guidance weight w",
    "distance_to_real": "Fréchet distance to real images",
    "inception_score": "inception-type score",
    "recall": "recall (diversity)",
    "precision": "precision (quality)",
}
_REPORT_SHOWN = {
    "distance_to_real": "Fréchet distance to\nheld-out real images",
    "distance_to_teacher": "Fréchet distance to the\nteacher's own samples",
}
_AGREEMENT_SHOWN = {
    "rms_to_teacher": "RMS to the teacher's sample",
    "psnr_to_teacher": "PSNR, dB",
    "ssim_to_teacher": "SSIM",
}
EXTRACTOR_METRICS_SHOWN = ("distance_to_real", "distance_to_teacher", "clip_score")


def escape_dollars(text: str) -> str:
    """Escape dollars in user text, which matplotlib would render as mathematics."""
    return text.replace("$", r"\$")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG without time stamp or version, so that equal content gives equal bytes."""
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=150, facecolor="white", metadata={"Software": None})


def draw_curve(report: Report, path: Path) -> None:
    """Plot distances to real images and to the teacher; the dotted line is of training images."""
    protocol = report.protocol
    title = (
        f"{report.run}: distance against sampling cost, same noise\n"
        f"{protocol.num_samples} samples per point vs. {protocol.num_heldout} real images, in the\n"
        f"{protocol.features}"
    )
    _draw(title, report.rows, _REPORT_SHOWN, path, report.real.distance_to_real)


def draw_agreement(run: str, rows: Sequence[AnyRow], num_samples: int, path: Path) -> None:
    """Plot RMS, PSNR and SSIM; the dotted line is the level of unrelated samples."""
    title = f"{run}: agreement with the teacher against cost, {num_samples} samples per point"
    _draw(title, rows, _AGREEMENT_SHOWN, path)


def draw_extractor_metrics(run: str, panel: ExtractorMetrics, num_samples: int, path: Path) -> None:
    """Plot an extractor's distances and CLIP score."""
    heads = {metric.metric: metric.title for metric in panel.metrics}
    shown = {key: heads[key] for key in EXTRACTOR_METRICS_SHOWN if key in heads}
    title = f"{run}: {panel.extractor} features, {num_samples} samples per point"
    _draw(title, panel.rows, shown, path)


def _draw(
    title: str,
    rows: Sequence[AnyRow],
    heads: Mapping[str, str],
    path: Path,
    real: float | None = None,
) -> None:
    """Plot metrics (rows of axes) against network evaluations, by guidance weight (columns).

    The teacher's reference is a star with a dashed line; shading and bars are 95 % bootstrap
    intervals. `real` is the first metric of real images.
    """
    weights = list(dict.fromkeys(row.cell.w for row in rows))
    shown = [key for key in heads if getattr(rows[0].scores, key) is not None]
    figure = Figure(figsize=(1.3 + 3.0 * max(2, len(weights)), 1.6 + 2.4 * len(shown)))
    figure.set_layout_engine("constrained")
    axes = figure.subplots(len(shown), len(weights), squeeze=False, sharex=True, sharey="row")
    for line, key in enumerate(shown):
        for ax, w in zip(axes[line], weights, strict=True):
            at_w = [row for row in rows if row.cell.w == w]
            _reference(ax, at_w, key)
            draw_lines(ax, at_w, key)
            if key.startswith("distance"):
                ax.set_yscale("log")
                ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
                ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
                ax.yaxis.set_minor_locator(NullLocator())
            if line == 0:
                ax.set_title(f"w = {w:g}", fontsize=12, color=INK)
                if real is not None:
                    style: dict[str, Any] = {"color": FAINT, "lw": 1.2, "ls": ":"}
                    ax.axhline(real, **style, label="real training images")
        axes[line, 0].set_ylabel(heads[key], color=INK)
    for ax in axes[-1]:
        ax.set_xlabel("network evaluations per sample", color=INK)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    figure.suptitle(title, fontsize=12, color=INK)
    save_figure(figure, path)


def _reference(ax: Axes, rows: Sequence[AnyRow], key: str) -> None:
    """Draw the teacher's reference, or the level of unrelated samples."""
    for row in (row for row in rows if row.cell.role in ("noise_floor", "teacher")):
        found = value_of(row.scores.model_dump(), key)
        if found is None:
            continue
        value, interval = found
        if row.cell.role == "noise_floor":
            ax.axhline(value, color=FAINT, lw=1.2, ls=":", label="teacher, other noise")
            continue
        ax.axhline(value, color=INK, lw=1.2, ls="--")
        if interval is not None:
            ax.axhspan(*interval, color=INK, alpha=0.08, lw=0)
        label = f"teacher, {row.cell.steps} steps"
        star: dict[str, Any] = {"marker": "*", "ms": 12, "color": INK, "ls": "--", "lw": 1.2}
        ax.plot([row.evaluations], [value], **star, label=label, zorder=5)


def draw_lines(ax: Axes, rows: Sequence[AnyRow], key: str) -> None:
    """Draw a metric of students and training-free samplers against network evaluations."""
    for is_noisy, style in enumerate(_STUDENTS):
        chosen = [
            row
            for row in rows
            if row.cell.role == "student" and row.cell.is_stochastic_student == is_noisy
        ]
        _line(ax, chosen, key, **style, lw=2.2, ms=6, zorder=6)
    for sampler, chosen in baselines_of(rows).items():
        style = _BASELINES.get(sampler, _OTHER_BASELINE)
        _line(ax, chosen, key, **style, label=teacher_title(sampler), lw=1.5, zorder=3)
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_locator(LogLocator(base=2, numticks=32))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    ax.xaxis.set_minor_locator(NullLocator())
    _style_axes(ax)


def _line(ax: Axes, rows: Sequence[AnyRow], key: str, **style: Any) -> None:
    found = ((row.evaluations, value_of(row.scores.model_dump(), key)) for row in rows)
    points = [(evaluations, value) for evaluations, value in found if value is not None]
    points.sort(key=lambda point: point[0])
    if points:
        x, y = [cost for cost, _ in points], [value for _, (value, _) in points]
        yerr = error_bars([value for _, value in points])
        ax.errorbar(x, y, yerr=yerr, capsize=0, elinewidth=1, **style)


def error_bars(found: Sequence[Value]) -> tuple[list[float], list[float]]:
    """Compute the lengths of the error bars below and above each number; 0 without interval."""
    spans = [(value, interval or (value, value)) for value, interval in found]
    below = [max(0.0, value - low) for value, (low, _) in spans]
    return below, [max(0.0, high - value) for value, (_, high) in spans]


def _style_axes(ax: Axes) -> None:
    """Apply the common style: two spines, faint ticks, a horizontal grid."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(FAINT)
    ax.tick_params(colors=FAINT, labelcolor=INK, labelsize=9)
    ax.grid(visible=True, which="major", axis="y", color="#e6e8eb", lw=0.8)
    ax.set_axisbelow(True)


def draw_tradeoff(report: Report, path: Path) -> None:
    """Plot distance, score and recall against w, one line per network."""
    pairs = [("w", key) for key in ("distance_to_real", "inception_score", "recall")]
    _draw_networks(f"{report.run}: guidance trade-off", report, pairs, path)


def draw_pareto(report: Report, path: Path) -> None:
    """Plot distance against score, and precision against recall, one line per network over all w.

    As in the trade-off curves of Meng et al. 2022, arXiv:2210.03142: one student covers every w,
    so it has one line beside its teacher's.
    """
    pairs = [("inception_score", "distance_to_real"), ("recall", "precision")]
    _draw_networks(f"{report.run}: students and their teacher over all w", report, pairs, path)


def _draw_networks(
    title: str, report: Report, pairs: Sequence[tuple[str, str]], path: Path
) -> None:
    """Plot pairs of metrics, or a metric against w; bars are 95 % bootstrap intervals."""
    figure = Figure(figsize=(11.5, 3.9 if len(pairs) > 2 else 4.6), layout="constrained")
    for ax, (across, up) in zip(figure.subplots(1, len(pairs)), pairs, strict=True):
        for name, rows, style in rows_by_network(report):
            x, y = ([_at(row, key) for row in rows] for key in (across, up))
            bars = {"xerr": None if across == "w" else error_bars(x), "yerr": error_bars(y)}
            points = [value for value, _ in x], [value for value, _ in y]
            look = {"marker": "o", "ms": 4, "elinewidth": 0.8, **style}
            ax.errorbar(*points, **bars, label=name, **look)
            if across != "w" and rows[0].cell.role == "teacher":
                for row, *point in zip(rows, *points, strict=True):
                    where = {"xytext": (6, -11), "textcoords": "offset points"}
                    ax.annotate(f"w = {row.cell.w:g}", point, **where, fontsize=8.5, color=INK)
        ax.set_xlabel(_NAMES[across], color=INK)
        ax.set_ylabel(_NAMES[up], color=INK)
        if across == "w":
            ax.set_xticks(report.weights)
        _style_axes(ax)
    figure.legend(
        *ax.get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize=9
    )
    figure.suptitle(title, fontsize=13, fontweight="bold", color=INK)
    save_figure(figure, path)


def _at(row: Row, key: str) -> Value:
    if key == "w":
        return row.cell.w, None
    return getattr(row.scores, key), getattr(row.scores, f"{key}_interval")


def rows_by_network(report: Report) -> list[tuple[str, list[Row], dict[str, Any]]]:
    """Return title, rows by w, and line style of the teacher and each student."""
    lines: dict[str, list[Row]] = {}
    for row in report.rows:
        if row.cell.role in ("teacher", "student"):
            lines.setdefault(row.cell.title, []).append(row)
    shades = LinearSegmentedColormap.from_list("students", _STUDENT_SHADES)
    found = []
    for position, (title, rows) in enumerate(lines.items()):
        style: dict[str, Any] = {"color": INK, "ls": "--", "lw": 2, "zorder": 5}
        if rows[0].cell.role == "student":
            style = {"color": shades(position / (len(lines) - 1)), "lw": 1.6}
            style |= {"ls": ":"} if rows[0].cell.is_stochastic_student else {}
        found.append((title, rows, style))
    return found
