"""Attempts at a round with a quality gate: look-up, human approval, acceptance.

A student is a `candidate` in the folder of its attempt until it is accepted; then it moves to
`student/` in the folder of its round, where all other stages look for it. The approval or rejection
of a failed student is committed beside its verdict.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config import GateRules
from pipeline.durable import link_tree
from pipeline.errors import BundleError
from pipeline.evaluation.verdicts.gate_documents import RoundVerdict, read_verdict
from pipeline.ledger import Artifact, Ledger, fingerprint
from pipeline.run_dir import layout
from pipeline.training.gate_policy import (
    FoundStudent,
    JudgedAttempt,
    rules_of,
    run_attempts,
    search_attempts,
)
from pipeline.training.plan import round_key
from pipeline.training.round_plan import RoundPlan
from stages.evaluation.sample_sets import SampleInputs
from stages.gate.gate_samples import gate_seed
from stages.gate.judge import Candidate, divergence_key, verdict_key
from stages.rounds.train import find_student
from stages.workspace import Workspace


@dataclass(frozen=True)
class GateContext:
    """All attempts at a round; `data` are its training samples, latents if there are any."""

    work: Workspace
    data: Artifact
    teacher: Artifact
    sample_inputs: SampleInputs

    def key(self, plan: RoundPlan) -> str:
        """Return the fingerprint of an attempt's student."""
        precision = self.work.profile.engine.precision
        return round_key(plan, self.work.recipe, precision, self.data, self.teacher)

    def find_student(self, plan: RoundPlan) -> Artifact | None:
        """Return the committed student of an attempt."""
        return find_student(self.work, plan, self.data, self.teacher)

    def candidate(self, plan: RoundPlan, student: Artifact) -> Candidate:
        """Return the student of an attempt as input of the gate."""
        return Candidate(
            plan=plan, student=student, teacher=self.teacher, sample_inputs=self.sample_inputs
        )


@dataclass(frozen=True)
class FoundAttempt:
    """Committed results of an attempt.

    Attributes:
        student: the student; None if training did not finish.
        judged: the attempt with its verdict; None without a verdict for the current bounds.
    """

    student: Artifact | None
    judged: JudgedAttempt | None


def find_attempt(context: GateContext, plan: RoundPlan) -> FoundAttempt:
    """Look up the student and the verdict of an attempt, each once."""
    ledger = context.work.ledger
    student = context.find_student(plan)
    if student is None:
        record = ledger.find(divergence_key(context.key(plan)))
    else:
        candidate = context.candidate(plan, student)
        record = ledger.find(verdict_key(context.work.recipe, candidate))
    return FoundAttempt(
        student, None if record is None else judged_attempt(ledger, plan, student, record)
    )


def judged_attempt(
    ledger: Ledger, plan: RoundPlan, student: Artifact | None, record: Artifact
) -> JudgedAttempt:
    """Return an attempt with its verdict, and the manual decision if there is one."""
    return JudgedAttempt(
        plan=plan,
        student=student,
        record=record,
        verdict=read_verdict(ledger.locate(record)),
        answer=find_answer(ledger, record),
    )


def find_accepted(context: GateContext, plan: RoundPlan) -> Artifact | None:
    """Return the committed student of a round that may be the next teacher; no work is done.

    A promoted student without a verdict for the current bounds is judged by its measured values,
    and kept if they do not apply to the current samples of the gate.
    """
    rules = rules_of(context.work.recipe, plan)
    if rules is None:
        return context.find_student(plan)
    promoted = find_promoted(context, plan)
    if promoted is not None and _would_stay(context, rules, *promoted[-1]):
        return promoted[-1][1]
    found = run_attempts(
        plan,
        rules,
        lambda attempt: find_attempt(context, attempt).judged,
        lambda judged: None,  # noqa: ARG005
    )
    return found.student if found and found.is_accepted else None


def find_promoted(context: GateContext, plan: RoundPlan) -> tuple[FoundStudent, ...] | None:
    """Return the attempts at a gated round up to the promoted one; None if none is promoted.

    It is found by its place, so bounds and `on_fail` may have changed since its promotion.
    """
    rules, place = rules_of(context.work.recipe, plan), layout.student_of(plan)
    if rules is None or not (context.work.run_dir / place).is_dir():
        return None

    def find(attempt: RoundPlan) -> FoundStudent | None:
        student = context.find_student(attempt)
        is_made = student or context.work.ledger.find(divergence_key(context.key(attempt)))
        return (attempt, student) if is_made else None

    return search_attempts(plan, rules, find, lambda student: student.path == place)


def _would_stay(
    context: GateContext, rules: GateRules, plan: RoundPlan, student: Artifact | None
) -> bool:
    from pipeline.evaluation.verdicts.gate_checks import with_bounds

    judged = find_attempt(context, plan).judged
    if judged is not None:
        return judged.is_accepted
    work, place = context.work, layout.verdict_of(plan)
    try:
        old = read_verdict(work.run_dir / place)
    except (OSError, ValueError):
        return True  # it is judged in the run
    gate, weights = work.recipe.gate, tuple(at.w for at in old.found)
    samples = (gate.num_samples if gate else 0, gate_seed(work.recipe), work.recipe.gate_weights)
    if rules.asks_samples and (old.num_samples, old.seed, weights) != samples:
        return True
    new = with_bounds(old, rules)
    return new.passed or (
        student is not None and _is_approved(work.ledger, place, student.fingerprint, new)
    )


def find_answer(ledger: Ledger, record: Artifact) -> bool | None:
    """Return whether a person approved a failed student; None without a decision.

    An approval holds for every later verdict on the same student in which no other check failed.
    """
    found = ledger.find(_answer_key(record))
    if found is not None:
        return bool(found.details["accepted"])
    verdict = read_verdict(ledger.locate(record))
    student = next(iter(record.parents), "")
    if not verdict.passed and _is_approved(ledger, record.path, student, verdict):
        return True
    return None


def _is_approved(ledger: Ledger, place: str, student: str, verdict: RoundVerdict) -> bool:
    """Whether a person approved a student of this attempt with at least these failed checks."""
    answer = layout.answer_beside(place)
    if not (ledger.run_dir / answer).is_file():
        return False
    return any(
        artifact.details["accepted"]
        and artifact.details.get("student") == student
        and verdict.failures <= set(artifact.details["failed"])
        for artifact in ledger.records()
        if artifact.kind == "answer" and artifact.path == answer
    )


def record_answer(run_dir: Path, record: Artifact, *, accepted: bool) -> None:
    """Commit a manual decision on the failed verdict `record`, with the checks that it is about."""
    ledger = Ledger(run_dir)
    failed = sorted(read_verdict(ledger.locate(record)).failures)

    def write(path: Path) -> dict[str, Any]:
        path.write_text(json.dumps({"accepted": accepted}) + "\n", encoding="utf-8")
        return {"accepted": accepted, "student": next(iter(record.parents), ""), "failed": failed}

    place = layout.answer_beside(record.path)
    ledger.publish("answer", _answer_key(record), place, write, (record.fingerprint,))


def keep_approval(run_dir: Path, judged: JudgedAttempt) -> None:
    """Commit an approval of an earlier verdict on the student for this verdict too."""
    if judged.answer and Ledger(run_dir).find(_answer_key(judged.record)) is None:
        record_answer(run_dir, judged.record, accepted=True)


def accept(run_dir: Path, plan: RoundPlan, judged: JudgedAttempt) -> Artifact:
    """Move an accepted student to the student path of its round; `plan` is that of the recipe.

    Raises:
        BundleError: the student is not accepted, or is damaged.
    """
    if judged.student is None or not judged.is_accepted:
        raise BundleError(
            f"{judged.plan.title}: student failed the quality gate; approve it by stepfold approve"
        )
    ledger, place = Ledger(run_dir), layout.student_of(plan)
    _set_replaced_aside(ledger, judged.student, place)
    return _move(ledger, judged.student, place, layout.candidate_of(judged.plan))


def set_aside(run_dir: Path, plan: RoundPlan, judged: JudgedAttempt) -> Artifact | None:
    """Move a failed student away from the student path, where it lies if it predates the gate.

    The arguments are those of `accept`.

    Returns:
        The student at its current path.
    """
    student, place = judged.student, layout.student_of(plan)
    if student is None or student.path != place:
        return student
    return _move(Ledger(run_dir), student, layout.candidate_of(judged.plan), place)


def _set_replaced_aside(ledger: Ledger, student: Artifact, place: str) -> None:
    """Move the student of another attempt from `place` to the folder of its attempt.

    Changed bounds can accept another attempt than before; with the old ones the student is needed
    again.
    """
    records = ledger.records()
    folders = {
        artifact.parents[0]: artifact.path.rpartition("/")[0]
        for artifact in records
        if artifact.kind == "verdict" and artifact.parents
    }
    for other in records:
        is_other = other.path == place and other.fingerprint != student.fingerprint
        aside = f"{folders.get(other.fingerprint, '')}/{layout.CANDIDATE}"
        is_free = other.fingerprint in folders and not (ledger.run_dir / aside).exists()
        if is_other and is_free and ledger.damage(other) is None:
            _move(ledger, other, aside, place)


def _move(ledger: Ledger, student: Artifact, place: str, old: str) -> Artifact:
    """Move a student to `place` and remove `old`; after a kill it lies at one of them or at both.

    Files are hard-linked, not copied.
    """
    if student.path != place:
        source = ledger.locate(student)

        def write(folder: Path) -> dict[str, Any]:
            link_tree(source, folder)
            return student.details

        moved = ledger.publish(student.kind, student.fingerprint, place, write, student.parents)
        if moved.digest != student.digest:
            raise BundleError(f"{source} changed during the move; run stepfold repair")
        student = moved
    shutil.rmtree(ledger.run_dir / old, ignore_errors=True)
    return student


def _answer_key(record: Artifact) -> str:
    return fingerprint({"stage": "answer", "verdict": record.fingerprint})
