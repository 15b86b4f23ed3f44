"""Texts about gate verdicts, shared by the terminal, Prefect, MLflow and `stepfold status`."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.config import Remedy
from pipeline.evaluation.verdicts.gate_documents import RoundVerdict
from pipeline.run_dir.gate_history import reasons
from pipeline.training.gate_policy import JudgedAttempt
from pipeline.training.round_plan import Retry
from pipeline.wording import format_count, format_path

_FOLLOW_UPS: dict[Remedy, str] = {
    "extend": "training is extended",
    "retry": "the round is retried with a lower learning rate",
    "ask": "waiting for manual approval",
    "stop": "the run stops",
}


def verdict_text(verdict: RoundVerdict) -> str:
    """Format a verdict in one line: reasons of a failure, or values and skipped checks."""
    if not verdict.passed:
        return f"failed: {reasons(verdict)}"
    numbers = ", ".join(f"{name} {value:.3g}" for name, value in verdict.numbers.items())
    values = numbers.replace("_", " ") or "weights are finite; no bound is on"
    skipped = "".join(f"; not checked: {check}" for check in verdict.unmeasured)
    undecided = "".join(f"; {check}" for check in verdict.undecided)
    return f"passed ({values}){undecided}{skipped}"


def follow_up_text(remedy: Remedy) -> str:
    """Describe the step that follows a failed student."""
    return _FOLLOW_UPS[remedy]


def failure_text(
    run_dir: Path, judged: JudgedAttempt, tried: Sequence[Retry], no_decision: str
) -> str:
    """Format the error of a run that stops at the gate, with the possible next steps.

    Args:
        run_dir: run directory.
        judged: the last attempt.
        tried: retries of the round.
        no_decision: why there is no manual decision although the recipe requests one; else empty.
    """
    retries = f" after it was {_count(tried)}" if tried else ""
    problems = reasons(judged.verdict)
    failed = "failed the gate" if problems else "passed the gate, but was rejected by a person,"
    rejected = " It was rejected manually." if problems and judged.answer is False else ""
    no_decision = f" {no_decision}." if no_decision else ""
    return (
        f"{judged.plan.title}: the student {failed}{retries} and was not promoted"
        f"{': ' if problems else ''}{problems}.{rejected}{no_decision} See "
        f"{_evidence(run_dir, judged)}. Then "
        f"approve it (`stepfold approve --run-dir {format_path(run_dir)}`), loosen that bound of "
        "the recipe's gate, or extend its training (gate.on_fail: extend, gate.extend.times), and "
        "run again, with --accept-changes if the recipe changed"
    )


def _evidence(run_dir: Path, judged: JudgedAttempt) -> str:
    """Return the path of the middle sample grid, or of the verdict if there is no grid."""
    folder = run_dir / judged.record.path
    if not judged.verdict.pictures:
        return format_path(folder)
    return format_path(folder / judged.verdict.pictures[len(judged.verdict.pictures) // 2])


def _count(tried: Sequence[Retry]) -> str:
    kinds = list(dict.fromkeys(retry.kind for retry in tried))
    counts = [(kind, sum(retry.kind == kind for retry in tried)) for kind in kinds]
    return " and ".join(f"{kind} {format_count(n, 'time')}" for kind, n in counts)
