"""Gate verdicts and manual decisions of all attempts, read from the ledger for display."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import get_args

from pipeline.evaluation.verdicts.gate_documents import RoundVerdict, read_verdict
from pipeline.ledger import Artifact, Ledger
from pipeline.training.round_plan import RetryKind, RoundPlan

_KINDS = ("verdict", "answer")

_MAX_REASONS = 3


@dataclass(frozen=True)
class GateRecord:
    """Verdict and manual decision on one attempt at a round.

    Attributes:
        folder: folder of the attempt, relative to the run directory.
        verdict: its newest verdict.
        answer: manual decision (True approves the student); None if there is no decision.
        bundles: fingerprints of the student and its teacher; empty if training diverged.
    """

    folder: str
    verdict: RoundVerdict
    answer: bool | None
    bundles: tuple[str, ...]

    @property
    def is_accepted(self) -> bool:
        """Whether the student may be the next teacher."""
        return self.verdict.passed if self.answer is None else self.answer

    def belongs_to(self, plan: RoundPlan) -> bool:
        """Whether this is an attempt at the round."""
        retries = tuple(f"{plan.folder}-{kind}-" for kind in get_args(RetryKind))
        return self.folder == plan.folder or self.folder.startswith(retries)

    def judges(self, student: Artifact | None) -> bool:
        """Whether the verdict is about exactly this student."""
        return student is not None and student.fingerprint in self.bundles[:1]


def gate_records(ledger: Ledger) -> list[GateRecord]:
    """Load the verdicts and decisions of all attempts, sorted by folder."""
    records = [a for a in ledger.records() if a.kind in _KINDS and ledger.damage(a) is None]
    answers = {a.parents[0]: bool(a.details["accepted"]) for a in records if a.kind == "answer"}
    verdicts = {a.path: a for a in records if a.kind == "verdict"}  # the newest per path
    found = [
        GateRecord(
            folder=str(PurePosixPath(path).parent),
            verdict=read_verdict(ledger.run_dir / path),
            answer=answers.get(artifact.fingerprint),
            bundles=artifact.parents,
        )
        for path, artifact in verdicts.items()
    ]
    return sorted(found, key=lambda record: record.folder)


def reasons(verdict: RoundVerdict, most: int = _MAX_REASONS) -> str:
    """Format the first `most` reasons of a failed verdict."""
    more = len(verdict.reasons) - most
    end = f"; and {more} more" if more > 0 else ""
    return "; ".join(verdict.reasons[:most]) + end


def approved_record(records: Sequence[GateRecord], student: Artifact | None) -> GateRecord | None:
    """Return the failed attempt behind a manually approved student, if there is one."""
    for record in records:
        if record.judges(student) and record.answer is True and not record.verdict.passed:
            return record
    return None
