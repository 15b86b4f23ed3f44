"""The quality gate of a round: train, judge, remedies, and manual approval.

A request for approval pauses the flow run until its form is submitted in the Prefect UI. This needs
a Prefect server that outlives the run: the temporary server of a run has no UI, so the run stops.
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

from flows.gate_wording import failure_text, follow_up_text, verdict_text
from flows.orchestration.server import configured_api_url
from flows.orchestration.stage_task import StageObserver, skipped, stage_task
from flows.run import Attempt, CompletedRound, Run
from flows.tasks import round_targets, train_task
from flows.tracking.round_tracking import log_verdict
from pipeline.config import GateRules, Remedy
from pipeline.errors import DivergenceError, GateError
from pipeline.ledger import Artifact, Ledger
from pipeline.training.gate_policy import JudgedAttempt, run_attempts
from pipeline.training.round_plan import Retry, RoundPlan
from pipeline.wording import format_path
from stages.chain import StageId, Step
from stages.evaluation.sample_sets import SampleInputs
from stages.gate import judge
from stages.gate.attempts import (
    GateContext,
    accept,
    find_attempt,
    find_promoted,
    find_ungated,
    is_rejected,
    judged_attempt,
    keep_answer,
    move_to_round,
    record_answer,
    set_aside,
)

_POLL_EVERY_S = 5

_log = logging.getLogger(__name__)


class Approval(RunInput):
    """Input form of an approval request: whether the student may be the next teacher."""

    accept: bool = False


def request_approval(run: Run, judged: JudgedAttempt) -> bool | str:
    """Publish samples and values, pause the flow run, and wait for a manual decision.

    Call within a flow.

    Returns:
        The decision (True approves the student), or why there is none.
    """
    if configured_api_url() is None:
        return (
            "Manual approval is not possible, because the temporary Prefect server of a run has no "
            "UI; start one with `prefect server start` and set PREFECT_API_URL"
        )
    gate = run.recipe.gate
    hours = gate.ask_hours if gate else 0.0
    show_verdict(run, judged)
    message = f"{verdict_text(judged.verdict)}; approve or reject it in Prefect within {hours:g} h"
    step = Step(StageId.JUDGE, judged.plan)
    run.events.emit("approval_requested", stage=step.id, title=judged.plan.title, message=message)
    form = Approval.with_initial_data(description=_form(judged), accept=False)
    try:
        decision = pause_flow_run(
            wait_for_input=form,
            timeout=max(1, round(hours * 3600)),
            poll_interval=_POLL_EVERY_S,
            key=judged.record.fingerprint[:32],
        )
    except FlowPauseTimeout:
        return f"There was no manual decision within {hours:g} h"
    _log.info(
        "%s: manual decision: %s", judged.plan.title, "approved" if decision.accept else "rejected"
    )
    return bool(decision.accept)


def show_verdict(run: Run, judged: JudgedAttempt) -> None:
    """Publish values and sample grids of a verdict as an artifact of the flow run."""
    name = judged.plan.folder.replace("/", "-").lower()
    create_markdown_artifact(
        markdown=_page(run.run_dir / judged.record.path, judged),
        key=f"gate-{name}",
        description=f"{judged.plan.title}: teacher and student side by side",
    )


def _form(judged: JudgedAttempt) -> str:
    return (
        f"**{judged.plan.title}**: the student {verdict_text(judged.verdict)}.\n\nIts samples are "
        "in an artifact of this flow run. If approved, it becomes the teacher of the next round; "
        "otherwise the next remedy of the recipe is applied, or the run stops."
    )


def _page(folder: Path, judged: JudgedAttempt) -> str:
    lines = [f"# {judged.plan.title}", f"The student {verdict_text(judged.verdict)}.", ""]
    lines += ["| w | check | value | bound |", "|--:|---|--:|---|"]
    for at in judged.verdict.found:
        for check in at.checks:
            bounds = [f"at least {check.least:g}"] if check.least is not None else []
            bounds += [f"at most {check.most:g}"] if check.most is not None else []
            failed = "" if check.passed else "**"
            ends = "" if check.interval is None else " ({:.3g} to {:.3g})".format(*check.interval)
            lines.append(
                f"| {at.w:g} | {check.name} | {failed}{check.value:.3g}{failed}{ends} | "
                f"{', '.join(bounds) or 'off'} |"
            )
    lines += [_picture(folder / name) for name in judged.verdict.pictures]
    return "\n".join(lines)


def _picture(path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    return f"\n![{path.stem}](data:image/png;base64,{data})"


def gated_student(
    run: Run,
    rules: GateRules,
    plan: RoundPlan,
    data: Artifact,
    teacher: Artifact,
    sample_inputs: SampleInputs,
) -> CompletedRound:
    """Run a round until the gate or a person accepts a student; call within a flow.

    Raises:
        GateError: no student was accepted, and no remedy is left.
        DivergenceError: training diverged, and no remedy is left.
    """
    context = GateContext(run.workspace, data, teacher, sample_inputs)
    attempts = _RoundAttempts(run, rules, context)
    outcome = attempts.keep_promoted(plan) or run_attempts(
        plan, rules, attempts.attempt, attempts.request_approval, attempts.on_failure
    )
    if outcome is None:
        raise TypeError("outcome is None, but `attempt` never ends the search")
    if outcome.is_accepted:
        attempts.report(outcome, "")
        student = accept(run.run_dir, plan, outcome)
        return CompletedRound(plan, (*attempts.done[:-1], (outcome.plan, student)))
    if outcome.student is None:
        # without the record, the next run trains again from the last checkpoint
        Ledger(run.run_dir).forget(outcome.record)
        raise DivergenceError(f"{outcome.plan.title}: {outcome.verdict.bad_numbers}")
    set_aside(run.run_dir, plan, outcome)
    raise GateError(failure_text(run.run_dir, outcome, attempts.retries, attempts.no_decision))


def ungated_student(
    run: Run, plan: RoundPlan, data: Artifact, teacher: Artifact, sample_inputs: SampleInputs
) -> CompletedRound:
    """Train the student of a round without a gate, unless it is committed; call within a flow.

    A student that was promoted while the recipe had a gate stays, whichever attempt made it.

    Raises:
        GateError: a person rejected the student while the recipe had a gate.
    """
    context = GateContext(run.workspace, data, teacher, sample_inputs)
    *before, (accepted, found) = find_ungated(context, plan)
    if found is not None and is_rejected(run.workspace.ledger, found):
        place = format_path(run.run_dir / found.path)
        raise GateError(
            f"{plan.title}: a person rejected the student in {place}, which also holds without a "
            f"gate. Approve it (`stepfold approve --run-dir {format_path(run.run_dir)}`), or "
            "change the training of the round, and run again"
        )
    targets = round_targets(run, accepted, data, teacher, found)
    step = Step(StageId.TRAIN, accepted)
    student = train_task(run, step, accepted, data, teacher, targets, found)
    student = move_to_round(run.run_dir, plan, accepted, student)  # from where the gate judged it
    return CompletedRound(plan, (*before, (accepted, student)))


@dataclass
class _RoundAttempts:
    """The callbacks of `run_attempts` for one round of a run.

    Attributes:
        run: the run.
        rules: gate rules of the round.
        context: inputs of the round's attempts.
        done: finished attempts, in order.
        retries: retries before the last failure.
        no_decision: why a requested manual decision is missing; empty if it is not.
    """

    run: Run
    rules: GateRules
    context: GateContext
    done: list[Attempt] = field(default_factory=list)
    retries: Sequence[Retry] = ()
    no_decision: str = ""

    def keep_promoted(self, plan: RoundPlan) -> JudgedAttempt | None:
        """Judge the promoted attempt by the current bounds; returns it if it stays accepted.

        Other bounds never lead back to an earlier attempt while the promoted one satisfies them.
        """
        found = find_promoted(self.context, plan)
        if found is None:
            return None
        judged = self._train_and_judge(found[-1][0])
        if not judged.is_accepted:
            return None
        self.done = list(found)
        return judged

    def attempt(self, plan: RoundPlan) -> JudgedAttempt:
        """Train and judge a student; committed parts are reused."""
        judged = self._train_and_judge(plan)
        self.done.append((plan, judged.student))
        return judged

    def _train_and_judge(self, plan: RoundPlan) -> JudgedAttempt:
        found = find_attempt(self.context, plan)
        if found.judged is not None and found.student is None:
            return found.judged
        run, data, teacher = self.run, self.context.data, self.context.teacher
        targets = round_targets(run, plan, data, teacher, found.student)
        train = Step(StageId.TRAIN, plan)
        try:
            student = train_task(run, train, plan, data, teacher, targets, found.student)
        except DivergenceError as error:
            if not self.rules.finite:
                raise
            return self._judge_divergence(plan, str(error))
        step = Step(StageId.JUDGE, plan)
        judged = judge_task(run, step, self.context, plan, student, found.judged)
        keep_answer(run.run_dir, judged)
        return judged

    def _judge_divergence(self, plan: RoundPlan, message: str) -> JudgedAttempt:
        work = self.run.workspace
        key = judge.divergence_key(self.context.key(plan))
        record = judge.judge_divergence(work, plan, key, message)
        return judged_attempt(work.ledger, plan, None, record)

    def on_failure(self, judged: JudgedAttempt, tried: Sequence[Retry], remedy: Remedy) -> None:
        """Report a failed attempt and its remedy; set the student aside for another attempt."""
        self.retries = tuple(tried)
        self.report(judged, f"; {follow_up_text(remedy)}")
        if remedy in ("extend", "retry"):
            first = judged.plan.model_copy(update={"again": None})
            self.done[-1] = (judged.plan, set_aside(self.run.run_dir, first, judged))

    def report(self, judged: JudgedAttempt, follow_up: str) -> None:
        """Write a verdict and its follow-up to the events, the log and MLflow."""
        decisions = {True: ", approved by a person", False: ", rejected by a person"}
        decision = "" if judged.answer is None else decisions[judged.answer]
        message = verdict_text(judged.verdict) + decision + follow_up
        step = Step(StageId.JUDGE, judged.plan)
        self.run.events.emit("gate_result", stage=step.id, title=judged.plan.title, message=message)
        _log.info("%s: %s", judged.plan.title, message)
        log_verdict(self.run, judged.plan, message, judged.verdict.numbers)

    def request_approval(self, judged: JudgedAttempt) -> bool | None:
        """Request a manual decision and commit it; returns None if there is none."""
        decision = request_approval(self.run, judged)
        if isinstance(decision, str):
            self.no_decision = decision
            return None
        record_answer(self.run.run_dir, judged.record, accepted=decision)
        return decision


@stage_task
def judge_task(
    run: Run,
    step: Step,
    context: GateContext,
    plan: RoundPlan,
    student: Artifact,
    judged: JudgedAttempt | None,
) -> JudgedAttempt:
    """Judge a student by the quality gate, unless its verdict `judged` is already committed."""
    if judged is not None:
        return skipped(run, step, judged)
    observer = StageObserver(run, step)
    with observer.working():
        workers = judge.on_workers(run.profile, observer.progress)
        record = judge.judge(run.workspace, context.candidate(plan, student), workers)
    return judged_attempt(run.workspace.ledger, plan, student, record)
