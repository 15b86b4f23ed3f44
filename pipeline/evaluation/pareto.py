"""Quality against diversity, w along each line: the trade-off that guidance makes."""

from pathlib import Path

from matplotlib.figure import Figure

from pipeline.evaluation.figures import INK, bare, bars, networks, save_figure
from pipeline.evaluation.protocol import Report
from pipeline.evaluation.tables import value_of

_SCORE = ("inception-type score", "inception_score")
_DISTANCE = ("Fréchet distance to real images", "distance_to_real")
_RECALL = ("recall (diversity)", "recall")
_PRECISION = ("precision (quality)", "precision")


def draw_pareto(report: Report, path: Path) -> None:
    """Distance against score, and precision against recall, a line for each network over all w.

    One student serves every w, so it has a line of its own beside its teacher's, as the trade-off
    curves of Meng et al. 2022, arXiv:2210.03142, have it. Bars are 95 % bootstrap intervals, of
    those numbers whose report has them.
    """
    figure = Figure(figsize=(11.5, 4.6), layout="constrained")
    axes = figure.subplots(1, 2)
    for ax, (across, up) in zip(axes, ((_SCORE, _DISTANCE), (_RECALL, _PRECISION)), strict=True):
        for title, rows, style in networks(report):
            scores = [row.scores.model_dump() for row in rows]
            found = [
                [value for each in scores if (value := value_of(each, key))]
                for _, key in (across, up)
            ]
            points = list(zip(*([value for value, _ in each] for each in found), strict=True))
            how = {"marker": "o", "ms": 4, "elinewidth": 0.8, **style}
            errors = {"xerr": bars(found[0]), "yerr": bars(found[1])}
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
