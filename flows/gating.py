"""A round with a gate: attempt after attempt until a student is accepted, or the run stops.

What was decided is read from what is committed, so a run that was killed goes the same way again.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from flows.attempts import Attempt, MadeRound
from flows.gate_question import ask_person
from flows.gate_words import follows, found, last_word
from flows.run import Run
from flows.stage_task import perform, skipped, stage_task, telling
from flows.tasks import distill_task, targets_of
from flows.tracking import tell_verdict
from pipeline.config import GateRules, Remedy
from pipeline.errors import DivergenceError, GateError
from pipeline.ledger import Artifact, Ledger
from pipeline.training.attempts import Judged, settle
from pipeline.training.round_plan import Again, RoundPlan
from stages import judge
from stages.attempts import Setting, accept, answer, judged_by, look_up, set_aside
from stages.labels import DISTIL, JUDGE
from stages.sample_sets import Subject

_log = logging.getLogger(__name__)


def gated_student(
    run: Run, rules: GateRules, plan: RoundPlan, data: Artifact, teacher: Artifact, subject: Subject
) -> MadeRound:
    """A round whose student its gate, or a person, let through; called within a flow.

    Raises:
        GateError: there is none, and nothing is left to try.
        DivergenceError: training broke off, and nothing is left to try.
    """
    setting = Setting(run.run_dir, run.recipe, run.profile, data, teacher, subject)
    course = _Course(run, rules, setting)
    outcome = settle(plan, rules, course.attempt, course.ask, course.decide)
    if outcome is None:
        raise TypeError("a run makes what it does not find")
    if outcome.is_accepted:
        course.tell(outcome, "")
        student = accept(run.run_dir, plan, outcome)
        return MadeRound(plan, (*course.made[:-1], (outcome.plan, student)))
    if outcome.student is None:
        # the same command is to try again, from the last checkpoint
        Ledger(run.run_dir).forget(outcome.record)
        raise DivergenceError(f"{outcome.plan.title}: {outcome.verdict.bad_numbers}")
    set_aside(run.run_dir, plan, outcome)
    raise GateError(last_word(run.run_dir, outcome, course.tried, course.why_unasked))


@dataclass
class _Course:
    """How a run takes the steps of `settle`."""

    run: Run
    rules: GateRules
    setting: Setting
    made: list[Attempt] = field(default_factory=list)
    tried: Sequence[Again] = ()
    why_unasked: str = ""

    def attempt(self, plan: RoundPlan) -> Judged:
        """Make and judge a student, as far as that is not done."""
        judged = self._judged(plan)
        self.made.append((plan, judged.student))
        return judged

    def _judged(self, plan: RoundPlan) -> Judged:
        known = look_up(self.setting, plan)
        if known is not None and known.student is None:
            return known
        run, data, teacher = self.run, self.setting.data, self.setting.teacher
        targets = targets_of(run, plan, data, teacher)
        try:
            student = distill_task(run, plan.title + DISTIL, plan, data, teacher, targets)
        except DivergenceError as error:
            if not self.rules.finite:
                raise
            return self._diverged(plan, str(error))
        judged = judge_task(run, plan.title + JUDGE, self.setting, plan, student)
        return known or judged  # what was found done is shown as skipped, and was read above

    def _diverged(self, plan: RoundPlan, told: str) -> Judged:
        run_dir, recipe = self.run.run_dir, self.run.recipe
        key = judge.divergence_key(self.setting.key(plan))
        record = judge.judge_divergence(run_dir, recipe, plan, key, told)
        return judged_by(Ledger(run_dir), plan, None, record)

    def decide(self, judged: Judged, tried: Sequence[Again], remedy: Remedy) -> None:
        """Say what follows a failure; where another attempt does, this one makes room for it."""
        self.tried = tuple(tried)
        self.tell(judged, f"; {follows(remedy)}")
        if remedy in ("extend", "retry"):
            first = judged.plan.model_copy(update={"again": None})
            self.made[-1] = (judged.plan, set_aside(self.run.run_dir, first, judged))

    def tell(self, judged: Judged, then: str) -> None:
        """Tell whoever watches what the gate found."""
        said = found(judged.verdict) + (", accepted by a person" if judged.answer else "") + then
        self.run.events.emit("judged", label=judged.plan.title, message=said)
        _log.info("%s: %s", judged.plan.title, said)
        tell_verdict(self.run, judged.plan, said, judged.verdict.numbers)

    def ask(self, judged: Judged) -> bool | None:
        """Ask a person, and commit the answer."""
        said = ask_person(self.run, judged)
        if isinstance(said, str):
            self.why_unasked = said
            return None
        answer(self.run.run_dir, judged.record, accepted=said)
        return said


@stage_task
def judge_task(
    run: Run, label: str, setting: Setting, plan: RoundPlan, student: Artifact
) -> Judged:
    """The gate's verdict on a student."""
    known = look_up(setting, plan)
    if known:
        return skipped(run, label, known)

    def work() -> Judged:
        hands = judge.on_workers(run.profile, telling(run, label))
        candidate = setting.candidate(plan, student)
        record = judge.judge(run.run_dir, run.recipe, candidate, hands)
        return judged_by(Ledger(run.run_dir), plan, student, record)

    return perform(run, label, work)
