"""What the gate says, in words: one wording for the terminal, Prefect, MLflow and `status`."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.config import Remedy
from pipeline.evaluation.verdicts.gate_documents import RoundVerdict
from pipeline.run_dir.gate_history import reasons
from pipeline.training.gate_policy import Judged
from pipeline.training.round_plan import Again
from pipeline.wording import counted, near

_FOLLOWS: dict[Remedy, str] = {
    "extend": "it is trained on",
    "retry": "the round begins anew at a lower learning rate",
    "ask": "a person is asked",
    "stop": "the run stops",
}


def found(verdict: RoundVerdict) -> str:
    """A verdict in one line: why not, or the numbers and what could not be asked."""
    if not verdict.passed:
        return f"failed: {reasons(verdict)}"
    numbers = ", ".join(f"{name} {value:.3g}" for name, value in verdict.numbers.items())
    unasked = "".join(f"; not asked: {what}" for what in verdict.unmeasured)
    return f"passed ({numbers.replace('_', ' ')}){unasked}"


def follows(remedy: Remedy) -> str:
    """What follows a failure."""
    return _FOLLOWS[remedy]


def last_word(run_dir: Path, judged: Judged, tried: Sequence[Again], why_unasked: str) -> str:
    """Why a run stopped at the gate, and the ways on: what, got, do.

    Args:
        run_dir: the run directory.
        judged: the last attempt.
        tried: how the round was done over.
        why_unasked: why a person who was to be asked was not, or gave no answer; "" if not so.
    """
    so_far = f" after {_counted(tried)}" if tried else ""
    no = " A person said no." if judged.answer is False else ""
    asked = f" {why_unasked}." if why_unasked else ""
    return (
        f"{judged.plan.title}: the student failed the gate{so_far} and was not promoted: "
        f"{reasons(judged.verdict)}.{no}{asked} Look at {_where(run_dir, judged)}. Then accept it "
        f"with stepfold accept --run-dir {near(run_dir)}, loosen that bound in the recipe's gate, "
        "or have it trained on (gate.on_fail: extend, gate.extend.times); and run again, with "
        "--accept-changes if the recipe changed"
    )


def _where(run_dir: Path, judged: Judged) -> str:
    folder = run_dir / judged.record.path
    if not judged.verdict.pictures:
        return near(folder)
    return near(folder / judged.verdict.pictures[len(judged.verdict.pictures) // 2])


def _counted(tried: Sequence[Again]) -> str:
    kinds = list(dict.fromkeys(again.kind for again in tried))
    counts = [(kind, sum(again.kind == kind for again in tried)) for kind in kinds]
    return " and ".join(f"being {kind} {counted(n, 'time')}" for kind, n in counts)
