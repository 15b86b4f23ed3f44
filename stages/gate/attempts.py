"""Attempts at a round with a quality gate: look-up, human approval, acceptance.

A student is a `candidate` in the folder of its attempt until it is accepted; then it moves to
`student/` in the folder of its round, where all other stages look for it. The approval or rejection
of a student is committed beside its verdict, and holds for later verdicts on this student too.
"""

import json
import shutil
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from pipeline.config import GateRules
from pipeline.durable import link_tree
from pipeline.errors import BundleError
from pipeline.evaluation.verdicts.gate_documents import RoundVerdict, read_verdict
from pipeline.ledger import Artifact, Ledger, fingerprint
from pipeline.run_dir import layout
from pipeline.run_dir.gate_history import reasons
from pipeline.run_dir.layout import RunDir
from pipeline.training.gate_policy import JudgedAttempt, rules_of, run_attempts
from pipeline.training.plan import round_key
from pipeline.training.round_plan import RoundPlan
from stages.evaluation.sample_sets import SampleInputs
from stages.gate.gate_samples import gate_seed
from stages.gate.judge import Candidate, divergence_key, verdict_key
from stages.rounds.train import find_student, recorded_attempt
from stages.workspace import Workspace

FoundStudent = tuple[RoundPlan, Artifact | None]
"""The plan of an attempt that was made, and its student; None if training diverged."""


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
        student = find_ungated(context, plan)[-1][1]
        return None if student is None or is_rejected(context.work.ledger, student) else student
    promoted = find_promoted(context, plan)
    if promoted is not None and not _refusal(context, rules, *promoted[-1]):
        return promoted[-1][1]
    found = run_attempts(
        plan,
        rules,
        lambda attempt: find_attempt(context, attempt).judged,
        lambda judged: None,  # noqa: ARG005
    )
    return found.student if found and found.is_accepted else None


def find_promoted(context: GateContext, plan: RoundPlan) -> tuple[FoundStudent, ...] | None:
    """Return the attempts at a round, the promoted one last; None if none is promoted.

    The promoted student is found by its place, and its attempt by its record. So the bounds, the
    actions and their settings may have changed since, and the gate may have been removed.
    """
    work, key = context.work, context.key(plan)
    artifacts = work.layout.artifacts()
    promoted = artifacts.get(layout.student_of(plan))
    attempt = None if promoted is None else _attempt_at(plan, key, promoted)
    if promoted is None or attempt is None or work.ledger.damage(promoted):
        return None
    others = [
        (found, student)
        for student in artifacts.values()
        if student != promoted and (found := _attempt_at(plan, key, student)) is not None
    ]
    is_first_there = any(each.again is None for each, _ in [*others, (attempt, promoted)])
    first = () if is_first_there else ((plan, None),)  # its training diverged
    return (*first, *sorted(others, key=_is_retry), (attempt, promoted))


def _attempt_at(plan: RoundPlan, key: str, student: Artifact) -> RoundPlan | None:
    """Return the plan of the attempt at a round that trained a student; None for other artifacts.

    `key` is the fingerprint of the student of the round's first attempt.
    """
    found = recorded_attempt(student)
    if student.fingerprint == key:
        return plan
    if found is None or found.round != key:
        return None
    return plan.attempt(found.again, found.updates)


def _is_retry(found: FoundStudent) -> bool:
    return found[0].again is not None


def find_ungated(context: GateContext, plan: RoundPlan) -> tuple[FoundStudent, ...]:
    """Return the attempts at a round without a gate, its student last; None if it is not trained.

    It is the student that was promoted while the round had a gate, else that of the first attempt.
    """
    return find_promoted(context, plan) or ((plan, context.find_student(plan)),)


def refusal_of_promoted(context: GateContext, plan: RoundPlan) -> str:
    """Return why the promoted student of a round is not accepted any more; "" if there is none."""
    rules, promoted = rules_of(context.work.recipe, plan), find_promoted(context, plan)
    if rules is None or promoted is None:
        return ""
    return _refusal(context, rules, *promoted[-1])


def _refusal(
    context: GateContext, rules: GateRules, plan: RoundPlan, student: Artifact | None
) -> str:
    """Return the failed checks of a promoted student by its measured values; "" if it stays."""
    from pipeline.evaluation.verdicts.gate_checks import with_bounds

    judged = find_attempt(context, plan).judged
    work, place = context.work, layout.verdict_of(plan)
    if judged is not None:
        verdict, answer = judged.verdict, judged.answer
    else:
        try:
            old = read_verdict(work.run_dir / place)
        except (OSError, ValueError):
            return ""  # it is judged in the run
        gate, weights = work.recipe.gate, tuple(at.w for at in old.found)
        samples = (
            gate.num_samples if gate else 0,
            gate_seed(work.recipe),
            work.recipe.gate_weights,
        )
        if rules.asks_samples and (old.num_samples, old.seed, weights) != samples:
            return ""
        verdict = with_bounds(old, rules)
        answer = _answer_on(work.ledger, student.fingerprint, verdict) if student else None
    if answer is False:
        return "was rejected by a person"
    return "" if answer or verdict.passed else f"fails {reasons(verdict)}"


def find_answer(ledger: Ledger, record: Artifact) -> bool | None:
    """Return whether a person approved or rejected the student of a verdict; None without either.

    The last decision on the student counts. A rejection holds for every later verdict on it, an
    approval for those in which no other check fails.
    """
    student = next(iter(record.parents), "")
    return _answer_on(ledger, student, read_verdict(ledger.locate(record)))


def is_rejected(ledger: Ledger, student: Artifact) -> bool:
    """Return whether the last decision of a person on a student is a rejection."""
    answers = _answers_on(ledger, student.fingerprint)
    return bool(answers) and not answers[0].details["accepted"]


def _answer_on(ledger: Ledger, student: str, verdict: RoundVerdict) -> bool | None:
    answers = _answers_on(ledger, student)
    approvals = list(takewhile(lambda answer: answer.details["accepted"], answers))
    if answers and not approvals:
        return False
    covers = any(verdict.failures <= set(answer.details["failed"]) for answer in approvals)
    return True if covers and not verdict.passed else None


def _answers_on(ledger: Ledger, student: str) -> list[Artifact]:
    """Return the decisions of people on a student, by its fingerprint, the last one first."""
    return [
        artifact
        for artifact in reversed(ledger.records())
        if artifact.kind == "answer"
        and artifact.details.get("student") == student
        and ledger.locate(artifact).is_file()
    ]


def record_answer(run_dir: Path, record: Artifact, *, accepted: bool) -> None:
    """Commit a manual decision on the student of a verdict, with the checks that it failed."""
    ledger = Ledger(run_dir)
    failed = sorted(read_verdict(ledger.locate(record)).failures)

    def write(path: Path) -> dict[str, Any]:
        path.write_text(json.dumps({"accepted": accepted}) + "\n", encoding="utf-8")
        return {"accepted": accepted, "student": next(iter(record.parents), ""), "failed": failed}

    place = layout.answer_beside(record.path)
    ledger.publish("answer", _answer_key(record), place, write, (record.fingerprint,))


def keep_answer(run_dir: Path, judged: JudgedAttempt) -> None:
    """Commit the decision on an earlier verdict on the student for this verdict too."""
    if judged.answer is None:
        return
    found = Ledger(run_dir).find(_answer_key(judged.record))
    if found is None or found.details["accepted"] != judged.answer:
        record_answer(run_dir, judged.record, accepted=judged.answer)


def accept(run_dir: Path, plan: RoundPlan, judged: JudgedAttempt) -> Artifact:
    """Move an accepted student to the student path of its round; `plan` is that of the recipe.

    Raises:
        BundleError: the student is not accepted, or is damaged.
    """
    if judged.student is None or not judged.is_accepted:
        raise BundleError(
            f"{judged.plan.title}: student failed the quality gate; approve it by stepfold approve"
        )
    return move_to_round(run_dir, plan, judged.plan, judged.student)


def move_to_round(
    run_dir: Path, plan: RoundPlan, attempt: RoundPlan, student: Artifact
) -> Artifact:
    """Move the student of an attempt to the student path of its round `plan`."""
    ledger, place = Ledger(run_dir), layout.student_of(plan)
    _set_replaced_aside(ledger, student, place)
    return _move(ledger, student, place, layout.candidate_of(attempt))


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
    other = RunDir(ledger.run_dir).artifacts().get(old)
    if other is None or other.fingerprint == student.fingerprint or ledger.damage(other):
        shutil.rmtree(ledger.run_dir / old, ignore_errors=True)
    return student


def _answer_key(record: Artifact) -> str:
    return fingerprint({"stage": "answer", "verdict": record.fingerprint})
