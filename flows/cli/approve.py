"""`stepfold accept`: let the student through at which a run stopped."""

from pathlib import Path

from rich.text import Text

from flows.cli.console import open_console
from flows.gate_wording import found
from pipeline.errors import ConfigError
from pipeline.evaluation.verdicts.gate_documents import read_verdict
from pipeline.ledger import Artifact, Ledger, hold
from pipeline.run_dir.run_status import require_run
from pipeline.wording import near
from stages.gate.attempts import answer, find_answer


def accept_failed(run_dir: Path | None) -> None:
    """Commit a yes to the student that failed the gate last; the next `run` goes on with it.

    Raises:
        ConfigError: it is no run, or no student of it waits for that.
        BusyError: a run is at work in it.
    """
    place = require_run(run_dir, Path("runs"))
    with hold(place):
        record = _waiting(Ledger(place), place)
        answer(place, record, accepted=True)
    verdict = read_verdict(place / record.path)
    text = Text("Accepted ", style="good").append(f"{verdict.title}, which {found(verdict)}.\n")
    text.append("It is promoted when the run goes on: ", style="quiet").append("stepfold run")
    open_console().print(text, soft_wrap=True)


def _waiting(ledger: Ledger, place: Path) -> Artifact:
    verdicts = [a for a in ledger.records() if a.kind == "verdict" and ledger.damage(a) is None]
    last = verdicts[-1] if verdicts else None
    if last is None or last.details["passed"] or find_answer(ledger, last):
        raise ConfigError(f"{near(place)}: no student waits at the gate; see stepfold status")
    if not last.parents:
        raise ConfigError(
            f"{near(place)}: training broke off, so there is no student to accept; see stepfold "
            "status"
        )
    return last
