"""Numbers against cost: agreement with the teacher, and what is measured by one extractor."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from pipeline.evaluation.figures import (
    FAINT,
    INK,
    Measure,
    Point,
    draw_lines,
    line_entries,
    save_figure,
)
from pipeline.evaluation.protocol import Panel

_SHOWN = {
    "rms_to_teacher": "RMS to the teacher's sample",
    "psnr_to_teacher": "PSNR, dB",
    "ssim_to_teacher": "SSIM",
}
PANEL_SHOWN = ("distance_to_real", "distance_to_teacher", "clip_score")


def draw_agreement(run: str, rows: Sequence[Point], num_samples: int, path: Path) -> None:
    """RMS, PSNR and SSIM against network evaluations, one column a guidance weight.

    The dotted line is the teacher from other noise: how far unrelated samples are.
    """
    title = f"{run}: agreement with the teacher against cost, {num_samples} samples a point"
    _draw(title, rows, _SHOWN, path)


def draw_panel(run: str, panel: Panel, num_samples: int, path: Path) -> None:
    """The distances of a panel and its CLIP score against network evaluations.

    The dotted line is the teacher's reference.
    """
    heads = {metric.metric: metric.title for metric in panel.metrics}
    shown = {key: heads[key] for key in PANEL_SHOWN if key in heads}
    title = f"{run}: in the features of {panel.extractor}, {num_samples} samples a point"
    _draw(title, panel.rows, shown, path)


def _draw(title: str, rows: Sequence[Point], heads: Mapping[str, str], path: Path) -> None:
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
                if row.cell.role in ("yardstick", "teacher"):
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
