"""Figures of a report: quality against cost, and the guidance trade-off. Bitwise reproducible."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from pipeline.evaluation.documents import SAMPLER_NAMES, AnyRow, ExtractorMetrics, Report, Row
from pipeline.evaluation.scores import Scores
from pipeline.evaluation.tables import Value, value_of
from pipeline.sampling.solvers import Sampler

INK = "#22262e"

FAINT = "#8a919c"

STUDENT = "#c8373f"

_BASELINES: dict[Sampler, tuple[str, str]] = {
    "ddim": ("#8a919c", "s"),
    "dpm++": ("#2a6fb0", "^"),
    "unipc": ("#3a8f5c", "D"),
}

_STUDENT_SHADES = ("#f0b27a", STUDENT, "#4a0d20")

_STUDENT_STYLES: tuple[dict[str, Any], ...] = (
    {"color": STUDENT, "marker": "o", "label": "distilled students"},
    {"color": "#c97a00", "marker": "v", "ls": "--", "label": "distilled students, stochastic"},
)

_CURVE_HEIGHT = 7.2  # inches

_TRADED = {
    "Fréchet distance to real images": "distance_to_real",
    "inception-type score": "inception_score",
    "recall": "recall",
}

Measure = Callable[[Any], tuple[float, tuple[float, float]] | None]


def escape_dollars(text: str) -> str:
    """Escape dollars in user text, which matplotlib would render as mathematics."""
    return text.replace("$", r"\$")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG without time stamp or version, so that equal content gives equal bytes."""
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=150, facecolor="white", metadata={"Software": None})


def draw_curve(report: Report, path: Path) -> None:
    """Plot distance against network evaluations: to real images (top), to the teacher (bottom).

    One column per guidance weight. The teacher's reference is a dashed line; shading and bars are
    95 % bootstrap intervals.
    """
    weights = report.weights
    width = 1.3 + 3.0 * max(2, len(weights))
    figure = Figure(figsize=(width, _CURVE_HEIGHT))
    axes = figure.subplots(2, len(weights), squeeze=False, sharex=True, sharey="row")
    figure.subplots_adjust(
        left=0.95 / width,
        right=1 - 0.2 / width,
        bottom=0.95 / _CURVE_HEIGHT,
        top=1 - 1.35 / _CURVE_HEIGHT,
        wspace=0.08,
        hspace=0.1,
    )
    for column, w in enumerate(weights):
        rows = report.at(w)
        _panel(axes[0, column], rows, _to_real)
        _panel(axes[1, column], rows, _to_teacher)
        axes[0, column].axhline(report.real.distance_to_real, color=FAINT, lw=1.2, ls=":", zorder=1)
        axes[0, column].set_title(f"w = {w:g}", fontsize=12, color=INK)
        axes[1, column].set_xlabel("network evaluations per sample", color=INK)
    axes[0, 0].set_ylabel("Fréchet distance to\nheld-out real images", color=INK)
    axes[1, 0].set_ylabel("Fréchet distance to the\nteacher's own samples", color=INK)
    _frame_curve(figure, axes[0, 0], report)
    save_figure(figure, path)


def _frame_curve(figure: Figure, ax: Axes, report: Report) -> None:
    width = figure.get_figwidth()
    protocol = report.protocol
    figure.text(
        0.2 / width,
        1 - 0.3 / _CURVE_HEIGHT,
        f"{report.run}: distance against sampling cost, same noise",
        fontsize=14,
        fontweight="bold",
        color=INK,
        va="center",
    )
    figure.text(
        0.2 / width,
        0.22 / _CURVE_HEIGHT,
        f"Distances in the {protocol.features};\n{protocol.num_samples} samples per point vs. "
        f"{protocol.num_heldout} real images. Bars and bands: 95 % bootstrap intervals.",
        fontsize=8.5,
        color=FAINT,
        va="center",
    )
    entries = _legend_entries(ax, protocol.reference_steps)
    figure.legend(
        [handle for handle, _ in entries],
        [label for _, label in entries],
        loc="center left",
        bbox_to_anchor=(0.12 / width, 1 - 0.75 / _CURVE_HEIGHT),
        ncols=6 if width > 12 else 3,
        frameon=False,
        fontsize=9,
        columnspacing=1.4,
    )


def draw_tradeoff(report: Report, path: Path) -> None:
    """Plot distance, score and recall against w, one line per network.

    Bars are 95 % bootstrap intervals, where the report has them.
    """
    figure = Figure(figsize=(11.5, 3.9), layout="constrained")
    axes = figure.subplots(1, len(_TRADED))
    for ax, (label, key) in zip(axes, _TRADED.items(), strict=True):
        for title, rows, style in rows_by_network(report):
            found = [value for row in rows if (value := value_of(row.scores.model_dump(), key))]
            points = ([row.cell.w for row in rows], [value for value, _ in found])
            how = {"marker": "o", "ms": 4, "elinewidth": 0.8, **style}
            ax.errorbar(*points, yerr=error_bars(found), label=title, **how)
        ax.set_title(label, fontsize=10.5, color=INK)
        ax.set_xlabel("guidance weight w", color=INK)
        ax.set_xticks(report.weights)
        apply_axes_style(ax)
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize=9
    )
    figure.suptitle(f"{report.run}: guidance trade-off", fontsize=13, fontweight="bold", color=INK)
    save_figure(figure, path)


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
    draw_lines(ax, rows, measure)
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    ax.yaxis.set_minor_locator(NullLocator())


def draw_lines(ax: Axes, rows: Sequence[AnyRow], measure: Measure) -> None:
    """Draw students, and the teacher with each training-free sampler, against evaluations."""
    for sampler, (color, marker) in _BASELINES.items():
        chosen = [r for r in rows if r.cell.role == "baseline" and r.cell.sampler == sampler]
        _line(ax, chosen, measure, **_baseline_style(sampler, color, marker), zorder=3)
    for is_noisy, style in enumerate(_STUDENT_STYLES):
        chosen = [
            row
            for row in rows
            if row.cell.role == "student" and row.cell.is_stochastic_student == is_noisy
        ]
        _line(ax, chosen, measure, **style, lw=2.2, ms=6, zorder=6)
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_locator(LogLocator(base=2, numticks=32))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    ax.xaxis.set_minor_locator(NullLocator())
    apply_axes_style(ax)


def _baseline_style(sampler: Sampler, color: str, marker: str) -> dict[str, Any]:
    # hollow squares and diamonds, so that overlapping points of several solvers stay visible
    sizes: dict[str, dict[str, Any]] = {
        "s": {"ms": 8, "mfc": "none", "mew": 1.3},
        "^": {"ms": 5},
        "D": {"ms": 4.5, "mfc": "none", "mew": 1.2},
    }
    size = sizes[marker]
    label = f"teacher, {SAMPLER_NAMES[sampler]}"
    return {"label": label, "color": color, "marker": marker, "lw": 1.5, **size}


def _line(ax: Axes, rows: Sequence[AnyRow], measure: Measure, **style: Any) -> None:
    points = sorted(
        (row.evaluations, found) for row in rows for found in [measure(row.scores)] if found
    )
    if not points:
        return
    x = [evaluations for evaluations, _ in points]
    y = [value for _, (value, _) in points]
    yerr = error_bars([found for _, found in points])
    ax.errorbar(x, y, yerr=yerr, capsize=0, elinewidth=1, **style)


def error_bars(found: Sequence[Value]) -> tuple[list[float], list[float]]:
    """Compute the lengths of the error bars below and above each number; 0 without interval."""
    spans = [(value, interval or (value, value)) for value, interval in found]
    below = [max(0.0, value - low) for value, (low, _) in spans]
    return below, [max(0.0, high - value) for value, (_, high) in spans]


def _legend_entries(ax: Axes, reference_steps: int) -> list[tuple[Any, str]]:
    return [
        *line_entries(ax),
        (
            _key(ax, color=INK, marker="*", ms=10, ls="--", lw=1.2),
            f"teacher, {reference_steps} steps",
        ),
        (_key(ax, color=FAINT, ls=":", lw=1.2), "real training images"),
    ]


def line_entries(ax: Axes) -> list[tuple[Any, str]]:
    """Return legend entries of the lines drawn by `draw_lines`."""
    styles = [{**style, "lw": 2.2} for style in _STUDENT_STYLES]
    styles += [
        _baseline_style(sampler, color, marker) for sampler, (color, marker) in _BASELINES.items()
    ]
    drawn = [str(container.get_label()) for container in ax.containers]
    return [(_key(ax, **style), style["label"]) for style in styles if style["label"] in drawn]


def _key(ax: Axes, **style: Any) -> Any:
    return ax.plot([], [], **style)[0]


def apply_axes_style(ax: Axes) -> None:
    """Apply the common style: two spines, faint ticks, a horizontal grid."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(FAINT)
    ax.tick_params(colors=FAINT, labelcolor=INK, labelsize=9)
    ax.grid(visible=True, which="major", axis="y", color="#e6e8eb", lw=0.8)
    ax.set_axisbelow(True)


_SHOWN = {
    "rms_to_teacher": "RMS to the teacher's sample",
    "psnr_to_teacher": "PSNR, dB",
    "ssim_to_teacher": "SSIM",
}

EXTRACTOR_METRICS_SHOWN = ("distance_to_real", "distance_to_teacher", "clip_score")


def draw_agreement(run: str, rows: Sequence[AnyRow], num_samples: int, path: Path) -> None:
    """Plot RMS, PSNR and SSIM against network evaluations, one column per guidance weight.

    The dotted line is the teacher with other noise, the level of unrelated samples.
    """
    title = f"{run}: agreement with the teacher against cost, {num_samples} samples per point"
    _draw(title, rows, _SHOWN, path)


def draw_extractor_metrics(run: str, panel: ExtractorMetrics, num_samples: int, path: Path) -> None:
    """Plot an extractor's distances and CLIP score against network evaluations.

    The dotted line is the teacher's reference.
    """
    heads = {metric.metric: metric.title for metric in panel.metrics}
    shown = {key: heads[key] for key in EXTRACTOR_METRICS_SHOWN if key in heads}
    title = f"{run}: {panel.extractor} features, {num_samples} samples per point"
    _draw(title, panel.rows, shown, path)


def _draw(title: str, rows: Sequence[AnyRow], heads: Mapping[str, str], path: Path) -> None:
    weights = list(dict.fromkeys(row.cell.w for row in rows))
    shown = [key for key in heads if getattr(rows[0].scores, key) is not None]
    figure = Figure(figsize=(1.3 + 3.0 * max(2, len(weights)), 1.3 + 2.2 * len(shown)))
    figure.set_layout_engine("constrained")
    axes = figure.subplots(len(shown), len(weights), squeeze=False, sharex=True, sharey="row")
    for line, key in enumerate(shown):
        for column, w in enumerate(weights):
            at_w = [row for row in rows if row.cell.w == w]
            ax = axes[line, column]
            for row in at_w:
                if row.cell.role in ("noise_floor", "teacher"):
                    ax.axhline(getattr(row.scores, key), color=FAINT, lw=1.2, ls=":")
            draw_lines(ax, at_w, _measure(key))
            if line == 0:
                ax.set_title(f"w = {w:g}", fontsize=12, color=INK)
        axes[line, 0].set_ylabel(heads[key], color=INK)
    for ax in axes[-1]:
        ax.set_xlabel("network evaluations per sample", color=INK)
    entries = line_entries(axes[0, 0])
    figure.legend(
        [handle for handle, _ in entries],
        [label for _, label in entries],
        loc="outside lower center",
        ncols=4,
        frameon=False,
        fontsize=9,
    )
    figure.suptitle(title, fontsize=12, fontweight="bold", color=INK)
    save_figure(figure, path)


def _measure(key: str) -> Measure:
    def measure(scores: Any) -> tuple[float, tuple[float, float]] | None:
        value, interval = getattr(scores, key), getattr(scores, f"{key}_interval")
        return None if value is None or interval is None else (value, interval)

    return measure


_SCORE = ("inception-type score", "inception_score")

_DISTANCE = ("Fréchet distance to real images", "distance_to_real")

_RECALL = ("recall (diversity)", "recall")

_PRECISION = ("precision (quality)", "precision")


def draw_pareto(report: Report, path: Path) -> None:
    """Plot distance against score, and precision against recall, one line per network over all w.

    As in the trade-off curves of Meng et al. 2022, arXiv:2210.03142: one student covers every w,
    so it has one line beside its teacher's. Bars are 95 % bootstrap intervals, where the report
    has them.
    """
    figure = Figure(figsize=(11.5, 4.6), layout="constrained")
    axes = figure.subplots(1, 2)
    for ax, (across, up) in zip(axes, ((_SCORE, _DISTANCE), (_RECALL, _PRECISION)), strict=True):
        for title, rows, style in rows_by_network(report):
            scores = [row.scores.model_dump() for row in rows]
            found = [
                [value for each in scores if (value := value_of(each, key))]
                for _, key in (across, up)
            ]
            points = list(zip(*([value for value, _ in each] for each in found), strict=True))
            how = {"marker": "o", "ms": 4, "elinewidth": 0.8, **style}
            errors = {"xerr": error_bars(found[0]), "yerr": error_bars(found[1])}
            ax.errorbar(*zip(*points, strict=True), **errors, label=title, **how)
            if rows[0].cell.role == "teacher":
                for row, point in zip(rows, points, strict=True):
                    ax.annotate(
                        f"w = {row.cell.w:g}",
                        point,
                        (6, -11),
                        textcoords="offset points",
                        fontsize=8.5,
                        color=INK,
                    )
        ax.set_xlabel(across[0], color=INK)
        ax.set_ylabel(up[0], color=INK)
        apply_axes_style(ax)
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize=9
    )
    figure.suptitle(
        f"{report.run}: students and their teacher over all w",
        fontsize=13,
        fontweight="bold",
        color=INK,
    )
    save_figure(figure, path)
