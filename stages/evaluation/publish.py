"""Put a report where the run is watched: curves over sampling steps, pictures, tables."""

from pathlib import Path

from infra.mlflow.content import Point, log_curves
from infra.mlflow.store import MlflowStore
from pipeline.evaluation.documents import Cell, Report, Row
from pipeline.evaluation.reports.agreement import AgreementReport, AgreementRow, read_either
from pipeline.evaluation.tables import value_of
from pipeline.evaluation.verdicts.checks import why_void
from pipeline.ledger import Artifact, Ledger
from pipeline.tracking import curve_name

_SHOWN = {
    "distance_to_real": "distance_to_real",
    "distance_to_teacher": "distance_to_teacher",
    "recall": "recall",
    "class_accuracy": "class_accuracy",
    "accuracy_by_class": "worst_class_accuracy",
    "rms_to_teacher": "rms_to_teacher",
}
"""Numbers of a row, and what MLflow calls them."""


def publish(
    run_dir: Path, report: Artifact, *, store: MlflowStore, chain_id: str, round_ids: dict[int, str]
) -> None:
    """Log a report into MLflow.

    The chain's run gets one curve for each metric and w, its step the number of sampling steps, so
    that its chart reads as quality against steps. Each round's run gets its own student's numbers.

    Args:
        run_dir: the run directory.
        report: the committed report.
        store: the MLflow store.
        chain_id: run of the chain.
        round_ids: run of each round, by round index.
    """
    folder = Ledger(run_dir).locate(report)
    content = read_either(folder)
    curves, by_round = curves_of(content)
    log_curves(store, chain_id, curves)
    for index, points in by_round.items():
        log_curves(store, round_ids[index], points)
    store.files(chain_id, [folder / name for name in sorted(report.files)], "report")
    store.files(chain_id, [run_dir / "recipe.yaml"], "recipe")
    store.describe(chain_id, _summary(content) if isinstance(content, Report) else _said(content))


def curves_of(report: Report | AgreementReport) -> tuple[list[Point], dict[int, list[Point]]]:
    """What the chain's run is told, and what each round's is, by round index."""
    curves: list[Point] = []
    by_round: dict[int, list[Point]] = {}
    for row in report.rows:
        if row.cell.role == "student" and row.cell.round is not None:
            curves += _points("chain", row)
            by_round.setdefault(row.cell.round, []).extend(_points("eval", row))
        elif row.cell.role == "baseline" and row.cell.sampler == "ddim":
            curves += _points("teacher_ddim", row)
    return curves, by_round


def _said(report: AgreementReport) -> str:
    return (
        f"## {report.run}: students beside their teacher\n\nThe data have no classes: RMS to the "
        f"teacher's sample of the same noise, {report.protocol.num_samples} samples a cell; the "
        "chart `chain/...` plots it against the number of sampling steps."
    )


def _points(section: str, row: Row | AgreementRow) -> list[Point]:
    scores = row.scores.model_dump()
    noisy = row.cell.is_stochastic_student
    return [
        (
            curve_name(f"{section}/{name}_w{row.cell.w:g}", is_stochastic=noisy),
            found[0],
            row.cell.steps,
        )
        for key, name in _SHOWN.items()
        if (found := value_of(scores, key))
    ]


def _column(cell: Cell) -> str:
    noisy = ", stochastic" if cell.is_stochastic_student else ""
    return f"{cell.steps} steps{noisy}"


def _summary(report: Report) -> str:
    """The table a person sees first: distance to real images at each step count and w."""
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
    void = why_void(report.verdicts)
    return (
        f"## {report.run}: guided diffusion in {min(steps for _, steps in columns)} step(s)\n\n"
        + (f"**{void}**\n\n" if void else "")
        + "Frechet distance to held-out real images in the "
        f"{report.protocol.features}; {report.protocol.num_samples} samples a cell. "
        "The chart `chain/...` plots each metric against the number of sampling steps.\n\n"
        + "\n".join(lines)
    )
