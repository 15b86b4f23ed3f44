"""Log a report to MLflow: curves over sampling steps, figures, tables."""

from pathlib import Path

from infra.mlflow.content import Point, log_curves
from infra.mlflow.store import MlflowStore
from pipeline.evaluation.documents import Report, Row, SampleSpec
from pipeline.evaluation.reports.agreement import AgreementReport, AgreementRow, read_either
from pipeline.evaluation.tables import value_of
from pipeline.evaluation.verdicts.checks import void_reason
from pipeline.ledger import Artifact, Ledger
from pipeline.run_dir.layout import RunDir
from pipeline.tracking import curve_name

_SHOWN = {
    "distance_to_real": "distance_to_real",
    "distance_to_teacher": "distance_to_teacher",
    "recall": "recall",
    "class_accuracy": "class_accuracy",
    "accuracy_by_class": "worst_class_accuracy",
    "rms_to_teacher": "rms_to_teacher",
}
"""Scores of a row, and their names in MLflow."""


def publish(
    run_dir: Path, report: Artifact, *, store: MlflowStore, chain_id: str, round_ids: dict[int, str]
) -> None:
    """Log a report to MLflow.

    The chain's run gets one curve for each metric and guidance weight, with sampling steps as its
    step, so that the chart shows quality against steps. Each round's run gets its own student's
    scores.

    Args:
        run_dir: run directory.
        report: the committed report.
        store: the MLflow store.
        chain_id: MLflow run of the chain.
        round_ids: MLflow run of each round, by round index.
    """
    folder = Ledger(run_dir).locate(report)
    content = read_either(folder)
    curves, by_round = curves_of(content)
    log_curves(store, chain_id, curves)
    for index, points in by_round.items():
        log_curves(store, round_ids[index], points)
    store.files(chain_id, [folder / name for name in sorted(report.files)], "report")
    store.files(chain_id, [RunDir(run_dir).recipe], "recipe")
    store.describe(
        chain_id,
        _report_summary(content) if isinstance(content, Report) else _agreement_summary(content),
    )


def curves_of(report: Report | AgreementReport) -> tuple[list[Point], dict[int, list[Point]]]:
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


def _agreement_summary(report: AgreementReport) -> str:
    return (
        f"## {report.run}: students and their teacher\n\nThe data have no classes. The chart "
        "`chain/...` shows the RMS difference to the teacher's sample from the same noise against "
        f"the number of sampling steps, for {report.protocol.num_samples} samples per cell."
    )


def _points(section: str, row: Row | AgreementRow) -> list[Point]:
    scores = row.scores.model_dump()
    is_stochastic = row.cell.is_stochastic_student
    return [
        (
            curve_name(f"{section}/{name}_w{row.cell.w:g}", is_stochastic=is_stochastic),
            found[0],
            row.cell.steps,
        )
        for key, name in _SHOWN.items()
        if (found := value_of(scores, key))
    ]


def _column(cell: SampleSpec) -> str:
    suffix = ", stochastic" if cell.is_stochastic_student else ""
    return f"{cell.steps} steps{suffix}"


def _report_summary(report: Report) -> str:
    """Return a Markdown table of the distance to real images by guidance weight and steps."""
    students = [row for row in report.rows if row.cell.role == "student"]
    columns = {(row.cell.round, row.cell.steps): _column(row.cell) for row in students}
    head = "| w | teacher | " + " | ".join(columns.values()) + " |"
    lines = [head, "|---" * (len(columns) + 2) + "|"]
    for w in report.weights:
        teacher = next(row for row in report.at(w) if row.cell.role == "teacher")
        by_round = {(r.cell.round, r.cell.steps): r for r in report.at(w)}
        cells = [by_round[column].scores.distance_to_real for column in columns]
        reference = f"{teacher.scores.distance_to_real:.2f} ({teacher.evaluations} evaluations)"
        lines.append(f"| {w:g} | {reference} | " + " | ".join(f"{v:.2f}" for v in cells) + " |")
    void = void_reason(report.verdicts)
    return (
        f"## {report.run}: guided diffusion in {min(steps for _, steps in columns)} step(s)\n\n"
        + (f"**{void}**\n\n" if void else "")
        + "Frechet distance to held-out real images in the "
        f"{report.protocol.features}; {report.protocol.num_samples} samples per cell. "
        "The chart `chain/...` shows each metric against the number of sampling steps.\n\n"
        + "\n".join(lines)
    )
