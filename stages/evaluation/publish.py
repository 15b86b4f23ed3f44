"""Log a report to the tracker: curves over sampling steps, figures, tables."""

from pathlib import Path

from pipeline.evaluation.documents import AnyReport, AnyRow, read_report
from pipeline.evaluation.reports.report_summary import ReportView
from pipeline.evaluation.tables import metric_of
from pipeline.ledger import Artifact, Ledger
from pipeline.run_dir.layout import RunDir
from pipeline.tracking import Point, RunTracker, curve_name

_SHOWN = {
    "distance_to_real": "distance_to_real",
    "distance_to_teacher": "distance_to_teacher",
    "recall": "recall",
    "class_accuracy": "class_accuracy",
    "accuracy_by_class": "worst_class_accuracy",
    "rms_to_teacher": "rms_to_teacher",
}
"""Scores of a row, and their names in the tracker."""


def publish(
    run_dir: Path,
    report: Artifact,
    *,
    tracker: RunTracker,
    chain_id: str,
    round_ids: dict[int, str],
) -> None:
    """Log a report to the tracker.

    The chain's run gets one curve for each metric and guidance weight, with sampling steps as its
    step, so that the chart shows quality against steps. Each round's run gets its own student's
    scores.

    Args:
        run_dir: run directory.
        report: the committed report.
        tracker: the tracker.
        chain_id: tracked run of the chain.
        round_ids: tracked run of each round, by round index.
    """
    folder = Ledger(run_dir).locate(report)
    content = read_report(folder)
    curves, by_round = curves_of(content)
    tracker.log(chain_id, curves)
    for index, points in by_round.items():
        tracker.log(round_ids[index], points)
    tracker.log_files(chain_id, [folder / name for name in sorted(report.files)], "report")
    tracker.log_files(chain_id, [RunDir(run_dir).recipe], "recipe")
    tracker.describe(chain_id, f"## {content.run}\n\n{ReportView(content).summary}")


def curves_of(report: AnyReport) -> tuple[list[Point], dict[int, list[Point]]]:
    """Return the curves of the chain, and those of each round by round index."""
    curves: list[Point] = []
    by_round: dict[int, list[Point]] = {}
    for row in report.rows:
        if row.cell.role == "student" and row.cell.round is not None:
            curves += _points("chain", row)
            by_round.setdefault(row.cell.round, []).extend(_points("eval", row))
        elif row.cell.role == "baseline" and row.cell.sampler == "ddim":
            curves += _points("teacher_ddim", row)
    return curves, by_round


def _points(section: str, row: AnyRow) -> list[Point]:
    is_stochastic = row.cell.is_stochastic_student
    return [
        (
            curve_name(f"{section}/{name}_w{row.cell.w:g}", is_stochastic=is_stochastic),
            found[0],
            row.cell.steps,
        )
        for key, name in _SHOWN.items()
        if (found := metric_of(row, key))
    ]
