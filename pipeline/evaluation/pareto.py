"""Quality against diversity, w along each line: the trade-off that guidance makes."""

from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from pipeline.evaluation.figures import INK, bare, networks, save_figure
from pipeline.evaluation.protocol import Report
from pipeline.evaluation.scores import Scores

_Axis = tuple[str, Callable[[Scores], float]]

_SCORE: _Axis = ("inception-type score", lambda scores: scores.inception_score)
_DISTANCE: _Axis = ("Fréchet distance to real images", lambda scores: scores.distance_to_real)
_RECALL: _Axis = ("recall (diversity)", lambda scores: scores.recall)
_PRECISION: _Axis = ("precision (quality)", lambda scores: scores.precision)


def draw_pareto(report: Report, path: Path) -> None:
    """Distance against score, and precision against recall, a line for each network over all w.

    One student serves every w, so it has a line of its own beside its teacher's, as the trade-off
    curves of Meng et al. 2022, arXiv:2210.03142, have it.
    """
    figure = Figure(figsize=(11.5, 4.6), layout="constrained")
    axes = figure.subplots(1, 2)
    for ax, (across, up) in zip(axes, ((_SCORE, _DISTANCE), (_RECALL, _PRECISION)), strict=True):
        for title, rows, style in networks(report):
            points = [(across[1](row.scores), up[1](row.scores)) for row in rows]
            ax.plot(*zip(*points, strict=True), marker="o", ms=4, label=title, **style)
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
        bare(ax)
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize=9
    )
    figure.suptitle(
        f"{report.run}: one student, all w; its teacher beside it",
        fontsize=13,
        fontweight="bold",
        color=INK,
    )
    save_figure(figure, path)
