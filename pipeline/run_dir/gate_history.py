"""What the gate said of every attempt, and a person of that: read from the ledger, for people."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import get_args

from pipeline.evaluation.verdicts.gate_documents import RoundVerdict, read_verdict
from pipeline.ledger import Artifact, Ledger
from pipeline.training.round_plan import AgainKind, RoundPlan

_SAID = ("verdict", "answer")

_MOST_REASONS = 3


@dataclass(frozen=True)
class GateRecord:
    """What was said of one attempt at a round.

    Attributes:
        folder: of the attempt, relative to the run directory.
        verdict: the gate's, the newest.
        answer: what a person said of it; None if nobody did.
        bundles: fingerprints of the student and its teacher; empty where training broke off.
    """

    folder: str
    verdict: RoundVerdict
    answer: bool | None
    bundles: tuple[str, ...]

    @property
    def is_accepted(self) -> bool:
        """Whether its student may teach."""
        return self.verdict.passed or self.answer is True

    def is_of(self, plan: RoundPlan) -> bool:
        """Whether it is an attempt at this round."""
        over = tuple(f"{plan.folder}-{kind}-" for kind in get_args(AgainKind))
        return self.folder == plan.folder or self.folder.startswith(over)

    def made(self, student: Artifact | None) -> bool:
        """Whether this very student is the one that was judged."""
        return student is not None and student.fingerprint in self.bundles[:1]


def gate_records(ledger: Ledger) -> list[GateRecord]:
    """What was said of every attempt at every round, each round's first attempt first."""
    records = [a for a in ledger.records() if a.kind in _SAID and ledger.damage(a) is None]
    answers = {a.parents[0]: bool(a.details["accepted"]) for a in records if a.kind == "answer"}
    verdicts = {a.path: a for a in records if a.kind == "verdict"}  # the newest of each place
    found = [
        GateRecord(
            folder=str(PurePosixPath(place).parent),
            verdict=read_verdict(ledger.run_dir / place),
            answer=answers.get(artifact.fingerprint),
            bundles=artifact.parents,
        )
        for place, artifact in verdicts.items()
    ]
    return sorted(found, key=lambda record: record.folder)


def reasons(verdict: RoundVerdict, most: int = _MOST_REASONS) -> str:
    """Why a student failed; the first few reasons."""
    all_of_them = verdict.reasons
    more = len(all_of_them) - most
    end = f"; and {more} more" if more > 0 else ""
    return "; ".join(all_of_them[:most]) + end


def let_through(records: Sequence[GateRecord], student: Artifact | None) -> GateRecord | None:
    """The attempt that made a student which a person accepted against its verdict, if one did."""
    for record in records:
        if record.made(student) and record.answer is True and not record.verdict.passed:
            return record
    return None
