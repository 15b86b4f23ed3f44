"""Ask a person whether a student that failed the gate is good enough: a pause of the flow run.

The question can be answered where there is a Prefect server that people can reach. The server that
lives as long as a run has no page, so nobody is asked there and the run stops.
"""

import base64
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from prefect import pause_flow_run
from prefect.artifacts import create_markdown_artifact
from prefect.exceptions import FlowPauseTimeout
from prefect.input import RunInput
from prefect.settings import get_current_settings

from flows.gate_wording import follows, found, last_word
from flows.orchestration.stage_task import perform, skipped, stage_task, telling
from flows.run import Attempt, MadeRound, Run
from flows.tasks import distill_task, targets_of
from flows.tracking.rounds import tell_verdict
from pipeline.config import GateRules, Remedy
from pipeline.errors import DivergenceError, GateError
from pipeline.ledger import Artifact, Ledger
from pipeline.training.gate_policy import Judged, settle
from pipeline.training.round_plan import Again, RoundPlan
from stages.chain import DISTIL, JUDGE
from stages.evaluation.sample_sets import Subject
from stages.gate import judge
from stages.gate.attempts import Setting, accept, answer, judged_by, look_up, set_aside

_LOOK_EVERY_S = 5

_log = logging.getLogger(__name__)


class Answer(RunInput):
    """What the form asks: whether the student may become the next round's teacher."""

    accept: bool = False


def ask_person(run: Run, judged: Judged) -> bool | str:
    """Show pictures and numbers, pause the flow run, wait: the answer, or why there is none.

    Call within a flow.
    """
    if not get_current_settings().api.url:
        return (
            "Nobody could be asked: the run's own Prefect server has no page; start one with "
            "prefect server start and set PREFECT_API_URL"
        )
    gate = run.recipe.gate
    hours = gate.ask_hours if gate else 0.0
    show(run, judged)
    question = f"{found(judged.verdict)}; is it good enough? Answer in Prefect within {hours:g} h"
    run.events.emit("asked", label=judged.plan.title, message=question)
    form = Answer.with_initial_data(description=_form(judged), accept=False)
    try:
        said = pause_flow_run(
            wait_for_input=form,
            timeout=max(1, round(hours * 3600)),
            poll_interval=_LOOK_EVERY_S,
            key=judged.record.fingerprint[:32],
        )
    except FlowPauseTimeout:
        return f"Nobody answered within {hours:g} h"
    _log.info("%s: a person said %s", judged.plan.title, "yes" if said.accept else "no")
    return bool(said.accept)


def show(run: Run, judged: Judged) -> None:
    """Numbers and pictures of a verdict as an artifact of the flow run."""
    name = judged.plan.folder.replace("/", "-").lower()
    create_markdown_artifact(
        markdown=_page(run.run_dir / judged.record.path, judged),
        key=f"gate-{name}",
        description=f"{judged.plan.title}: teacher and student side by side",
    )


def _form(judged: Judged) -> str:
    return (
        f"**{judged.plan.title}**: the student {found(judged.verdict)}.\n\nIts pictures are in the "
        "artifact of this flow run. Accept it, and it becomes the next round's teacher; else the "
        "recipe's next remedy follows, or the run stops."
    )


def _page(folder: Path, judged: Judged) -> str:
    lines = [f"# {judged.plan.title}", f"The student {found(judged.verdict)}.", ""]
    lines += ["| w | check | found | bound |", "|--:|---|--:|---|"]
    for at in judged.verdict.found:
        for check in at.checks:
            bounds = [f"at least {check.least:g}"] if check.least is not None else []
            bounds += [f"at most {check.most:g}"] if check.most is not None else []
            failed = "" if check.passed else "**"
            lines.append(
                f"| {at.w:g} | {check.name} | {failed}{check.value:.3g}{failed} | "
                f"{', '.join(bounds) or 'off'} |"
            )
    lines += [_picture(folder / name) for name in judged.verdict.pictures]
    return "\n".join(lines)


def _picture(path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    return f"\n![{path.stem}](data:image/png;base64,{data})"


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
