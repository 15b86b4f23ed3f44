"""Attempts at a round that has a gate: looked up, answered by a person, accepted or set aside.

A student is a `candidate` in the folder of its attempt until it is accepted; only then does it come
to lie at `student/` in the folder of its round, where everybody looks for it. What a person said of
a failed one is committed beside its verdict.
"""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.config import Recipe
from pipeline.config.profile import Profile
from pipeline.errors import BundleError
from pipeline.evaluation.verdicts.gate_documents import read_verdict
from pipeline.ledger import Artifact, Ledger, fingerprint
from pipeline.training.gate_policy import Judged, rules_of, settle
from pipeline.training.plan import round_key
from pipeline.training.round_plan import RoundPlan
from stages.evaluation.sample_sets import Subject
from stages.gate.judge import Candidate, divergence_key, verdict_key
from stages.rounds.train import find_student


@dataclass(frozen=True)
class Setting:
    """What the attempts at a round have in common.

    Attributes:
        run_dir: the run directory.
        recipe: what is run.
        profile: where.
        data: the data set that rounds learn from, latents where there are any.
        teacher: of the round.
        subject: what the gate's samples are of.
    """

    run_dir: Path
    recipe: Recipe
    profile: Profile
    data: Artifact
    teacher: Artifact
    subject: Subject

    def key(self, plan: RoundPlan) -> str:
        """The fingerprint of an attempt's student."""
        precision = self.profile.engine.precision
        return round_key(plan, self.recipe, precision, self.data, self.teacher)

    def find_student(self, plan: RoundPlan) -> Artifact | None:
        """The committed student of an attempt."""
        return find_student(self.run_dir, self.recipe, self.profile, plan, self.data, self.teacher)

    def candidate(self, plan: RoundPlan, student: Artifact) -> Candidate:
        """The student of an attempt, as it is judged."""
        return Candidate(plan=plan, student=student, teacher=self.teacher, subject=self.subject)


def look_up(setting: Setting, plan: RoundPlan) -> Judged | None:
    """An attempt that was made and judged; None if it was not, or not by these bounds."""
    ledger = Ledger(setting.run_dir)
    student = setting.find_student(plan)
    if student is None:
        record = ledger.find(divergence_key(setting.key(plan)))
    else:
        record = ledger.find(verdict_key(setting.recipe, setting.candidate(plan, student)))
    return None if record is None else judged_by(ledger, plan, student, record)


def judged_by(
    ledger: Ledger, plan: RoundPlan, student: Artifact | None, record: Artifact
) -> Judged:
    """An attempt with its verdict, and the answer if there is one."""
    return Judged(
        plan=plan,
        student=student,
        record=record,
        verdict=read_verdict(ledger.locate(record)),
        answer=find_answer(ledger, record),
    )


def find_accepted(setting: Setting, plan: RoundPlan) -> Artifact | None:
    """The student of a round that may teach, as far as it is committed; nothing is made."""
    rules = rules_of(setting.recipe, plan)
    if rules is None:
        return setting.find_student(plan)
    found = settle(plan, rules, lambda attempt: look_up(setting, attempt), lambda judged: None)  # noqa: ARG005
    return found.student if found and found.is_accepted else None


def find_answer(ledger: Ledger, record: Artifact) -> bool | None:
    """What a person said of a verdict; None if nobody did."""
    said = ledger.find(_answer_key(record))
    return None if said is None else bool(said.details["accepted"])


def answer(run_dir: Path, record: Artifact, *, accepted: bool) -> None:
    """Commit what a person said of a failed student, whose verdict `record` is."""

    def write(path: Path) -> dict[str, Any]:
        path.write_text(json.dumps({"accepted": accepted}) + "\n", encoding="utf-8")
        return {"accepted": accepted}

    place = f"{PurePosixPath(record.path).parent}/answer.json"
    Ledger(run_dir).publish("answer", _answer_key(record), place, write, (record.fingerprint,))


def accept(run_dir: Path, plan: RoundPlan, judged: Judged) -> Artifact:
    """Put an accepted student into the student's place of its round; once there it stays.

    Args:
        run_dir: the run directory.
        plan: the round as it is in the recipe.
        judged: the attempt whose student is accepted.

    Raises:
        BundleError: it is not accepted, or is damaged.
    """
    if judged.student is None or not judged.is_accepted:
        raise BundleError(f"{judged.plan.title}: a student that failed the gate is not promoted")
    return _put(Ledger(run_dir), judged.student, f"{plan.folder}/student", _candidate(judged.plan))


def set_aside(run_dir: Path, plan: RoundPlan, judged: Judged) -> Artifact | None:
    """Take a failed student out of the student's place, if it was trained before there was a gate.

    Arguments are those of `accept`.

    Returns:
        The student where it lies now.
    """
    student, place = judged.student, f"{plan.folder}/student"
    if student is None or student.path != place:
        return student
    return _put(Ledger(run_dir), student, _candidate(judged.plan), place)


def _candidate(plan: RoundPlan) -> str:
    return f"{plan.folder}/candidate"


def _put(ledger: Ledger, student: Artifact, place: str, old: str) -> Artifact:
    """Have a student lie at `place`, and nothing of it at `old`; a kill leaves it at one or both.

    Its files are linked, not copied: the same bytes stay where they are on the disk.
    """
    if student.path != place:
        source = ledger.locate(student)

        def write(folder: Path) -> dict[str, Any]:
            shutil.copytree(source, folder, copy_function=_link, dirs_exist_ok=True)
            return student.details

        moved = ledger.publish(student.kind, student.fingerprint, place, write, student.parents)
        if moved.digest != student.digest:
            raise BundleError(f"{source} changed while it was moved; run stepfold repair")
        student = moved
    shutil.rmtree(ledger.run_dir / old, ignore_errors=True)
    return student


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # not every file system has links
        shutil.copyfile(source, target)


def _answer_key(record: Artifact) -> str:
    return fingerprint({"stage": "answer", "verdict": record.fingerprint})
