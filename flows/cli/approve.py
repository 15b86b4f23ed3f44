"""`stepfold approve`: accept the student that failed the quality gate, or was rejected."""

from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from flows.cli.console import open_console
from flows.cli.options import RunDirOption, RunsProfile
from pipeline.errors import ConfigError
from pipeline.wording import format_path

if TYPE_CHECKING:
    from pipeline.ledger import Artifact, Ledger


def approve(run_dir: RunDirOption = None, profile: RunsProfile = None) -> None:
    """Approve the student that the quality gate or a person rejected, to continue the run.

    The next `stepfold run` promotes the student and starts the following round.
    """
    from flows.cli.request import find_run
    from flows.gate_wording import verdict_text
    from pipeline.evaluation.verdicts.gate_documents import read_verdict
    from pipeline.ledger import Ledger, lock_run_dir
    from stages.gate.attempts import record_answer

    place = find_run(run_dir, profile)
    with lock_run_dir(place):
        record = _waiting(Ledger(place), place)
        record_answer(place, record, accepted=True)
    verdict = read_verdict(place / record.path)
    text = Text("Approved ", style="good").append(f"{verdict.title} ({verdict_text(verdict)}).\n")
    text.append("To promote it and continue the run: ", style="quiet").append("stepfold run")
    open_console().print(text, soft_wrap=True)


def _waiting(ledger: "Ledger", run_dir: Path) -> "Artifact":
    """Return the verdict of the student that waits for approval."""
    from stages.gate.attempts import find_answer

    verdicts = [a for a in ledger.records() if a.kind == "verdict" and ledger.damage(a) is None]
    last = verdicts[-1] if verdicts else None
    answer = None if last is None else find_answer(ledger, last)
    if last is None or answer or (last.details["passed"] and answer is None):
        raise ConfigError(
            f"{format_path(run_dir)}: no student waits for approval; see stepfold status"
        )
    if not last.parents:
        raise ConfigError(
            f"{format_path(run_dir)}: training diverged, so there is no student to approve; see "
            "stepfold status"
        )
    return last
